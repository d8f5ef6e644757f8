/** Checks clients' views against the rows of the HTTP API, without code of the server. */
import { createPrivateKey, createPublicKey } from "node:crypto"
import type { View } from "./client.ts"

export type Fields = Readonly<Record<string, unknown>>

/** The rows of the API, and the private keys of certificates, which the API never returns. */
export interface Rows {
  readonly agents: ReadonlyArray<Fields>
  readonly gateways: ReadonlyArray<Fields>
  readonly tunnels: ReadonlyArray<Fields>
  readonly certificates: ReadonlyArray<Fields>
  readonly certificateKeys: ReadonlyMap<string, string>
}

/** Describes each difference between a client's view and the correct view. */
export const viewFaults = (type: "agent" | "gateway", id: string, view: View, rows: Rows): ReadonlyArray<string> => {
  const expected = type === "agent" ? agentView(id, rows) : gatewayView(id, rows)
  const wrong = [...differences(comparable(view), expected, ""), ...(type === "agent" ? misplacedGateways(view) : [])]
  const named = [...rows.agents, ...rows.gateways, ...rows.tunnels]
  return wrong.map((text) =>
    named.reduce((text, row) => text.replace(String(row["id"]), String(row["domain"] ?? row["name"])), text)
  )
}

/** An agent sees itself, every gateway, and its own tunnels. */
const agentView = (id: string, { agents, gateways, tunnels }: Rows) => ({
  own: agents.filter((agent) => agent["id"] === id).map((agent) => ({
    ...pick(agent, ["id", "name", "virtualIp", "subnet"]),
    wireguardPrivateKey: `the private half of ${text(agent, "wireguardPublicKey")}`
  }))[0],
  peers: byKey(gateways.map((gateway) => ({
    ...pick(gateway, ["id", "name", "publicIp", "wireguardPublicKey"]),
    virtualIps: "checked separately"
  }))),
  tunnels: byKey(
    tunnels.filter((tunnel) => tunnel["agentId"] === id).map((tunnel) =>
      pick(tunnel, ["id", "domain", "target", "enabled"])
    )
  ),
  certificates: {}
})

/** A gateway sees itself, every agent, every tunnel, and every certificate with its private key. */
const gatewayView = (id: string, { agents, certificateKeys, certificates, gateways, tunnels }: Rows) => ({
  own: gateways.filter((gateway) => gateway["id"] === id).map((gateway) => ({
    ...pick(gateway, ["id", "name"]),
    wireguardPrivateKey: `the private half of ${text(gateway, "wireguardPublicKey")}`
  }))[0],
  peers: byKey(agents.map((agent) => pick(agent, ["id", "name", "virtualIp", "subnet", "wireguardPublicKey"]))),
  tunnels: byKey(tunnels.map((tunnel) => ({
    ...pick(tunnel, ["id", "domain", "target", "enabled"]),
    agentVirtualIp: agents.find((agent) => agent["id"] === tunnel["agentId"])?.["virtualIp"]
  }))),
  certificates: byKey(certificates.map((certificate) => ({
    ...pick(certificate, ["domain", "certificate", "expiresAt"]),
    privateKey: certificateKeys.get(text(certificate, "domain"))
  })))
})

/** A view without order, in which the public key identifies the WireGuard private key. */
const comparable = ({ certificates, own, peers, tunnels }: View) => ({
  own: { ...own, wireguardPrivateKey: `the private half of ${publicHalf(text(own, "wireguardPrivateKey"))}` },
  peers: byKey(
    peers.map((peer) =>
      "virtualIps" in fields(peer) ? { ...fields(peer), virtualIps: "checked separately" } : fields(peer)
    )
  ),
  tunnels: Object.fromEntries(tunnels),
  certificates: byKey(certificates.map(fields))
})

/** Checks addresses that the API does not show: each is in the agent's subnet and belongs to one gateway. */
const misplacedGateways = ({ own, peers }: View): ReadonlyArray<string> => {
  const network = text(own, "subnet").replace(/\d+\/24$/u, "")
  const usedAddresses = new Set([text(own, "virtualIp")])
  return peers.map(fields).flatMap((gateway) => {
    const addresses = Array.isArray(gateway["virtualIps"]) ? gateway["virtualIps"].map(String) : []
    const [address = "none"] = addresses
    const isCorrect = addresses.length === 1 && address.startsWith(network) && !usedAddresses.has(address)
    usedAddresses.add(address)
    return isCorrect
      ? []
      : [`gateway ${text(gateway, "name")} has the addresses ${JSON.stringify(addresses)} in ${text(own, "subnet")}`]
  })
}

/** Derives the public key of a WireGuard key. It is an X25519 key (RFC 7748), so the PKCS #8 prefix is that of RFC 8410. */
const publicHalf = (privateKey: string): string => {
  const raw = Buffer.from(privateKey, "base64")
  if (raw.length !== 32) return "nothing"
  const key = Buffer.concat([Buffer.from("302e020100300506032b656e04220420", "hex"), raw])
  const { x = "" } = createPublicKey(createPrivateKey({ key, format: "der", type: "pkcs8" })).export({ format: "jwk" })
  return Buffer.from(x, "base64url").toString("base64")
}

/** Describes the differences without the values of private fields. */
const differences = (actual: unknown, expected: unknown, path: string): ReadonlyArray<string> => {
  if (isObject(actual) && isObject(expected)) {
    return [...new Set([...Object.keys(expected), ...Object.keys(actual)])].flatMap((key) =>
      differences(actual[key], expected[key], path === "" ? key : `${path}.${key}`)
    )
  }
  if (actual === expected) return []
  if (/private_?key$/iu.test(path)) return [`${path} is another key`]
  if (expected === undefined) return [`${path} is unexpected`]
  if (actual === undefined) return [`${path} is missing`]
  return [`${path} is ${JSON.stringify(actual)}, but must be ${JSON.stringify(expected)}`]
}

/** A text that only some clients may have received. */
export interface Secret {
  readonly name: string
  readonly text: string
  readonly mayReceive: (client: string) => boolean
}

/** Describes each secret that a client has received without permission. */
export const leaks = (
  client: string,
  received: ReadonlyArray<string>,
  secrets: ReadonlyArray<Secret>
): ReadonlyArray<string> =>
  secrets
    .filter(({ mayReceive, text }) =>
      !mayReceive(client) && received.some((message) => message.includes(escaped(text)))
    )
    .map(({ name }) => `${client} received ${name}`)

/** The text as it appears inside JSON. */
const escaped = (text: string): string => JSON.stringify(text).slice(1, -1)

const isObject = (value: unknown): value is Fields => typeof value === "object" && value !== null
const fields = (value: unknown): Fields => isObject(value) ? value : {}
const text = (row: Fields, field: string): string => String(row[field])
const pick = (row: Fields, names: ReadonlyArray<string>): Fields =>
  Object.fromEntries(names.map((name) => [name, row[name]]))
const byKey = (rows: ReadonlyArray<Fields>): Fields =>
  Object.fromEntries(rows.map((row) => [String(row["id"] ?? row["domain"]), row]))
