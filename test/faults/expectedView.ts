/** Expected view of each client, computed from plain SQL without any code of Control. */
import type { View } from "#support/ViewReplica.ts"
import { createPrivateKey, createPublicKey } from "node:crypto"
import type { Account, FaultClient } from "./FaultClient.ts"
import type { Postgres, Rows } from "./Postgres.ts"

export interface DatabaseRows {
  readonly revision: number
  readonly agents: Rows
  readonly gateways: Rows
  readonly tunnels: Rows
  readonly certificates: Rows
  readonly online: ReadonlySet<string>
}

/** Reads all rows in one statement, so that they belong to one moment. */
export const readRows = async (postgres: Postgres): Promise<DatabaseRows> => {
  const [row] = await postgres.query(`select
    (select revision::float8 from control_meta) as revision,
    (select coalesce(jsonb_agg(jsonb_build_object('id', id, 'name', name, 'virtualIp', virtual_ip, 'subnet', subnet,
      'publicKey', wireguard_public_key, 'status', status)), '[]') from agents) as agents,
    (select coalesce(jsonb_agg(jsonb_build_object('id', id, 'name', name, 'publicIp', public_ip, 'slot', slot,
      'listenPort', listen_port, 'publicKey', wireguard_public_key, 'status', status)), '[]') from gateways) as gateways,
    (select coalesce(jsonb_agg(jsonb_build_object('id', id, 'agentId', agent_id, 'domain', domain, 'target', target,
      'enabled', enabled, 'name', name, 'protocol', protocol, 'port', port, 'listenPort', listen_port,
      'proxyProtocol', proxy_protocol, 'tls', tls)), '[]') from tunnels) as tunnels,
    (select coalesce(jsonb_agg(jsonb_build_object('domain', domain, 'certificate', certificate,
      'expiresAt', to_char(expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))), '[]')
      from certificates) as certificates`)
  const { agents, certificates, gateways, revision, tunnels } = row as unknown as Omit<DatabaseRows, "online">
  const online = [...agents, ...gateways].filter(({ status }) => status === "online").map(({ id }) => String(id))
  return { revision, agents, gateways, tunnels, certificates, online: new Set(online) }
}

/** Describes the first three differences between the client's view and the expected one. */
export const findViewErrors = (
  client: FaultClient,
  world: DatabaseRows,
  certificateKeys: ReadonlyMap<string, string>
): ReadonlyArray<string> => {
  const { view } = client.viewer
  const { account } = client
  if (view === undefined) return [`${account.name} has no view`]
  const expected = account.type === "agent" ? agentView(account, world) : gatewayView(account, world, certificateKeys)
  if (expected === undefined) return [`${account.name} has a view, but no row`]
  return differences(comparable(view), expected, account.name).slice(0, 3)
}

const agentView = ({ id, level }: Account, { agents, gateways, tunnels }: DatabaseRows) => {
  const agent = agents.find((row) => row["id"] === id)
  if (agent === undefined) return undefined
  return {
    own: {
      ...only(agent, ["id", "name", "virtualIp", "subnet"]),
      wireguardPrivateKey: `private half of ${agent["publicKey"]}`,
      ...(level === "v1" && { wireguardPublicKey: agent["publicKey"] })
    },
    peers: byKey(gateways.map((gateway) => ({
      ...only(gateway, ["id", "name", "publicIp"]),
      wireguardPublicKey: gateway["publicKey"],
      virtualIps: [inSubnet(String(agent["subnet"]), Number(gateway["slot"]))],
      ...(level === "v1" && { endpoint: endpoint(gateway) })
    }))),
    tunnels: byKey(tunnels.filter(({ agentId }) => agentId === id).map((tunnel) => tunnelRow(tunnel, level))),
    certificates: {}
  }
}

const gatewayView = (
  { id, level }: Account,
  { agents, certificates, gateways, tunnels }: DatabaseRows,
  certificateKeys: ReadonlyMap<string, string>
) => {
  const gateway = gateways.find((row) => row["id"] === id)
  if (gateway === undefined) return undefined
  const addresses = new Map(agents.map((agent) => [agent["id"], agent["virtualIp"]]))
  return {
    own: {
      ...only(gateway, ["id", "name"]),
      wireguardPrivateKey: `private half of ${gateway["publicKey"]}`,
      ...(level === "v1" && { listenPort: gateway["listenPort"], wireguardPublicKey: gateway["publicKey"] })
    },
    peers: byKey(agents.map((agent) => ({
      ...only(agent, ["id", "name", "virtualIp", "subnet"]),
      wireguardPublicKey: agent["publicKey"],
      ...(level === "v1" && { gatewayVirtualIp: inSubnet(String(agent["subnet"]), Number(gateway["slot"])) })
    }))),
    tunnels: byKey(
      tunnels.map((tunnel) => ({ ...tunnelRow(tunnel, level), agentVirtualIp: addresses.get(tunnel["agentId"]) }))
    ),
    certificates: byKey(certificates.map((certificate) => ({
      ...only(certificate, ["domain", "certificate", "expiresAt"]),
      privateKey: certificateKeys.get(String(certificate["domain"]))
    })))
  }
}

type Fields = Readonly<Record<string, unknown>>

const only = (row: Fields, names: ReadonlyArray<string>): Fields =>
  Object.fromEntries(names.map((name) => [name, row[name]]))

/** The faults use http tunnels only, which both levels see. */
const tunnelRow = (tunnel: Fields, level: Account["level"]): Fields =>
  only(tunnel, level === "v1" ? [...plainFields, ...fieldsOfV1] : plainFields)

const plainFields = ["id", "domain", "target", "enabled"]
const fieldsOfV1 = ["name", "protocol", "port", "listenPort", "proxyProtocol", "tls"]

const byKey = (rows: ReadonlyArray<Fields>): Fields =>
  Object.fromEntries(rows.map((row) => [String(row["id"] ?? row["domain"]), row]))

/** The agent has .1 in its /24. Gateway slots begin at .2 and end at .254. */
const inSubnet = (subnet: string, slot: number): string | null =>
  slot + 2 < 255 ? subnet.replace(/\d+\/24$/u, String(slot + 2)) : null

const endpoint = ({ listenPort, publicIp }: Fields): string | null => {
  if (typeof publicIp !== "string") return null
  return `${publicIp.includes(":") ? `[${publicIp}]` : publicIp}:${listenPort}`
}

const comparable = ({ certificates, own, peers, tunnels }: View): Fields => {
  const self = own as Fields
  const privateKey = self["wireguardPrivateKey"]
  return {
    own: {
      ...self,
      wireguardPrivateKey: typeof privateKey === "string" ? `private half of ${publicHalf(privateKey)}` : privateKey
    },
    peers,
    tunnels,
    certificates
  }
}

const halves = new Map<string, string>()

/** A WireGuard key is an X25519 key (RFC 7748). The hex prefix starts its PKCS #8 form (RFC 8410). */
const publicHalf = (privateKey: string): string => {
  const cached = halves.get(privateKey)
  if (cached !== undefined) return cached
  const raw = Buffer.from(privateKey, "base64")
  if (raw.length !== 32) return "nothing"
  const key = Buffer.concat([Buffer.from("302e020100300506032b656e04220420", "hex"), raw])
  const { x = "" } = createPublicKey(createPrivateKey({ key, format: "der", type: "pkcs8" })).export({ format: "jwk" })
  const half = Buffer.from(x, "base64url").toString("base64")
  halves.set(privateKey, half)
  return half
}

const differences = (actual: unknown, expected: unknown, path: string): ReadonlyArray<string> => {
  if (actual === expected) return []
  if (isObject(actual) && isObject(expected)) {
    return [...new Set([...Object.keys(expected), ...Object.keys(actual)])].flatMap((key) =>
      differences(actual[key], expected[key], `${path}.${key}`)
    )
  }
  if (/private_?key$/iu.test(path)) return [`${path} is a wrong key`]
  return [`${path} is ${JSON.stringify(actual) ?? "missing"} instead of ${JSON.stringify(expected) ?? "missing"}`]
}

const isObject = (value: unknown): value is Fields => typeof value === "object" && value !== null
