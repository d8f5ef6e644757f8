/** What a client should see, worked out from the rows and nothing else: the oracle that the real code is compared with. */
import { type ClientRef, nameOf } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import type { AgentRow, CertificateRow, GatewayRow, Tables, TunnelRow } from "./databaseTables.ts"

/** Rows as canonical texts, by id; a certificate's is its domain. */
export interface View {
  readonly own: string
  readonly peers: ReadonlyMap<string, string>
  readonly tunnels: ReadonlyMap<string, string>
  readonly certificates: ReadonlyMap<string, string>
}

/** A row as text, in which the order of fields does not count. */
export const canonical = (row: object): string => JSON.stringify(row, Object.keys(row).toSorted())

export const isSameView = (a: View, b: View): boolean =>
  a.own === b.own && sameRows(a.peers, b.peers) && sameRows(a.tunnels, b.tunnels) &&
  sameRows(a.certificates, b.certificates)

/** In words, what differs; for people. */
export const describeDifference = (view: View | undefined, truth: View | undefined): string => {
  if (view === undefined || truth === undefined)
    return view === truth
      ? "nothing"
      : view
      ? "should have none"
      : "has none"
  return [
    view.own === truth.own ? "" : `own ${view.own} should be ${truth.own}`,
    rowsDiffer("peers", view.peers, truth.peers),
    rowsDiffer("tunnels", view.tunnels, truth.tunnels),
    rowsDiffer("certificates", view.certificates, truth.certificates)
  ].filter((text) => text !== "").join("; ").slice(0, 1_500)
}

const projections = new WeakMap<Tables, Map<string, View | undefined>>()

/** The view of a client at these tables; undefined when they do not have the client. */
export const expectedView = (tables: Tables, ref: ClientRef, level: Level): View | undefined => {
  let known = projections.get(tables)
  if (known === undefined) projections.set(tables, known = new Map())
  const name = `${level} ${nameOf(ref)}`
  if (known.has(name)) return known.get(name)
  const isPlain = level === "plain"
  const view = ref.type === "agent" ? viewOfAgent(tables, ref.id, isPlain) : viewOfGateway(tables, ref.id, isPlain)
  known.set(name, view)
  return view
}

function viewOfAgent(tables: Tables, id: string, isPlain: boolean): View | undefined {
  const agent = tables.agent.get(id)
  if (agent === undefined) return undefined
  const tunnels = new Map<string, string>()
  for (const row of tables.tunnel.values()) if (row.agentId === id) tunnels.set(row.id, tunnelForAgent(row))
  const peers = new Map<string, string>()
  for (const row of tables.gateway.values()) {
    if (!areConnected(tables, row, agent.id)) continue
    const { id, listenPort, name, publicIp, publicKey: wireguardPublicKey } = row
    const address = addressOf(agent, row)
    const virtualIps = address === null ? [] : [address]
    const shown = { id, name, publicIp, wireguardPublicKey, virtualIps }
    const host = publicIp?.includes(":") === true ? `[${publicIp}]` : publicIp
    const endpoint = host === null ? null : `${host}:${listenPort}`
    peers.set(id, canonical(isPlain ? shown : { ...shown, endpoint }))
  }
  const { name, subnet, virtualIp } = agent
  return {
    own: canonical({ id, name, virtualIp, subnet, ...ownKeys(agent, isPlain) }),
    peers,
    tunnels,
    certificates: new Map()
  }
}

function viewOfGateway(tables: Tables, id: string, isPlain: boolean): View | undefined {
  const gateway = tables.gateway.get(id)
  if (gateway === undefined) return undefined
  const tunnels = new Map<string, string>()
  const served = [...tables.tunnel.values()].filter((row) => isServedBy(gateway, row))
  for (const { agentId, domain, enabled, id, target } of served) {
    const agentVirtualIp = tables.agent.get(agentId)?.virtualIp
    tunnels.set(id, canonical({ id, domain, agentVirtualIp, target, enabled }))
  }
  const peers = new Map<string, string>()
  for (const row of tables.agent.values()) {
    if (!areConnected(tables, gateway, row.id)) continue
    const { id, name, publicKey: wireguardPublicKey, subnet, virtualIp } = row
    const shown = { id, name, virtualIp, subnet, wireguardPublicKey }
    peers.set(id, canonical(isPlain ? shown : { ...shown, gatewayVirtualIp: addressOf(row, gateway) }))
  }
  const certificates = new Map<string, string>()
  const covered = [...tables.certificate.values()].filter(({ id }) =>
    gateway.serves === null || served.some(({ domain }) => covers(id, domain))
  )
  for (const row of covered) certificates.set(row.id, certificate(row))
  const { listenPort, name } = gateway
  const own = { id, name, ...ownKeys(gateway, isPlain), ...(isPlain ? {} : { listenPort }) }
  return { own: canonical(own), peers, tunnels, certificates }
}

/** Whether a name, such as a certificate's, covers a domain: it is the domain, or the wildcard of one label in its place. */
function covers(name: string, domain: string): boolean {
  return name === domain || name.startsWith("*.") && domain.endsWith(name.slice(1)) &&
      !domain.slice(0, 1 - name.length).includes(".") && domain.length >= name.length
}

/** Whether this gateway takes this tunnel's traffic. */
export const isServedBy = ({ serves }: GatewayRow, { agentId, domain }: TunnelRow): boolean =>
  serves === null || serves.agents.includes(agentId) || serves.domains.some((name) => covers(name, domain))

function areConnected({ tunnel }: Tables, gateway: GatewayRow, agent: string): boolean {
  return gateway.serves === null || gateway.serves.agents.includes(agent) ||
    [...tunnel.values()].some((row) => row.agentId === agent && isServedBy(gateway, row))
}

/** At the plain level a private key must be; at `control.v1` both are, but for the private key that its owner keeps to itself. */
function ownKeys({ privateKey, publicKey }: AgentRow | GatewayRow, isPlain: boolean): object {
  if (isPlain) return { wireguardPrivateKey: privateKey ?? "" }
  return { wireguardPublicKey: publicKey, ...(privateKey === null ? {} : { wireguardPrivateKey: privateKey }) }
}

const tunnelForAgent = remembered(({ domain, enabled, id, target }: TunnelRow) =>
  canonical({ id, domain, target, enabled })
)
const certificate = remembered(({ certificate, expiresAt, id: domain, privateKey }: CertificateRow) =>
  canonical({ domain, certificate, privateKey, expiresAt })
)

/** The gateway's address in the agent's /24: .2 for slot 0, and so on below .255. */
function addressOf({ subnet }: AgentRow, { slot }: GatewayRow): string | null {
  return slot + 2 < 255 ? subnet.replace(/\d+\/24$/u, String(slot + 2)) : null
}

/** Rows are immutable, so a text is made once. */
function remembered<Row extends object>(make: (row: Row) => string): (row: Row) => string {
  const known = new WeakMap<Row, string>()
  return (row) => {
    const before = known.get(row)
    if (before !== undefined) return before
    const made = make(row)
    known.set(row, made)
    return made
  }
}

function sameRows(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  if (a.size !== b.size) return false
  for (const [id, row] of a) if (b.get(id) !== row) return false
  return true
}

function rowsDiffer(name: string, view: ReadonlyMap<string, string>, truth: ReadonlyMap<string, string>): string {
  const ids = new Set([...view.keys(), ...truth.keys()])
  const wrong = [...ids].filter((id) => view.get(id) !== truth.get(id))
  return wrong.map((id) => `${name}: ${view.get(id) ?? "nothing"} should be ${truth.get(id) ?? "nothing"}`).join(", ")
}
