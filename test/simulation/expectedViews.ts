/** Expected view of a client, computed from rows only: the oracle for the real code. */
import { httpTunnelFields } from "#support/tunnelFields.ts"
import { type ClientRef, formatClientRef } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import type { AgentRow, CertificateRow, GatewayRow, Tables, TunnelRow } from "./databaseTables.ts"

/** Rows in canonical text form, by id; certificates by domain. */
export interface View {
  readonly own: string
  readonly peers: ReadonlyMap<string, string>
  readonly tunnels: ReadonlyMap<string, string>
  readonly certificates: ReadonlyMap<string, string>
}

/** A row as JSON with sorted field names. */
export const canonical = (row: object): string => JSON.stringify(row, Object.keys(row).toSorted())

export const isSameView = (a: View, b: View): boolean =>
  a.own === b.own && sameRows(a.peers, b.peers) && sameRows(a.tunnels, b.tunnels) &&
  sameRows(a.certificates, b.certificates)

/** Describes the difference between two views for a violation report. */
export const describeDifference = (view: View | undefined, truth: View | undefined): string => {
  if (view === undefined || truth === undefined)
    return view === truth
      ? "nothing"
      : view
      ? "should have none"
      : "has none"
  return [
    view.own === truth.own ? "" : `own ${view.own} should be ${truth.own}`,
    describeRows("peers", view.peers, truth.peers),
    describeRows("tunnels", view.tunnels, truth.tunnels),
    describeRows("certificates", view.certificates, truth.certificates)
  ].filter((text) => text !== "").join("; ").slice(0, 1_500)
}

const projections = new WeakMap<Tables, Map<string, View | undefined>>()

/** Expected view of a client; undefined when the tables do not contain the client. */
export const expectedView = (tables: Tables, ref: ClientRef, level: Level): View | undefined => {
  let cached = projections.get(tables)
  if (cached === undefined) projections.set(tables, cached = new Map())
  const name = `${level} ${formatClientRef(ref)}`
  if (cached.has(name)) return cached.get(name)
  const isPlain = level === "plain"
  const view = ref.type === "agent" ? agentView(tables, ref.id, isPlain) : gatewayView(tables, ref.id, isPlain)
  cached.set(name, view)
  return view
}

function agentView(tables: Tables, id: string, isPlain: boolean): View | undefined {
  const agent = tables.agent.get(id)
  if (agent === undefined) return undefined
  const tunnels = new Map<string, string>()
  for (const row of tables.tunnel.values()) {
    if (row.agentId !== id || isPlain && !isHttp(row)) continue
    tunnels.set(row.id, isPlain ? tunnelForAgent(row) : tunnelForAgentV1(row))
  }
  const peers = new Map<string, string>()
  for (const row of tables.gateway.values()) {
    if (!arePeers(tables, row, agent.id)) continue
    const { id, listenPort, name, publicIp, publicKey: wireguardPublicKey } = row
    const address = gatewayAddress(agent, row)
    const virtualIps = address === null ? [] : [address]
    const peer = { id, name, publicIp, wireguardPublicKey, virtualIps }
    const host = publicIp?.includes(":") === true ? `[${publicIp}]` : publicIp
    const endpoint = host === null ? null : `${host}:${listenPort}`
    peers.set(id, canonical(isPlain ? peer : { ...peer, endpoint }))
  }
  const { name, subnet, virtualIp } = agent
  return {
    own: canonical({ id, name, virtualIp, subnet, ...ownKeys(agent, isPlain) }),
    peers,
    tunnels,
    certificates: new Map()
  }
}

function gatewayView(tables: Tables, id: string, isPlain: boolean): View | undefined {
  const gateway = tables.gateway.get(id)
  if (gateway === undefined) return undefined
  const tunnels = new Map<string, string>()
  const served = [...tables.tunnel.values()].filter((row) => isServedBy(gateway, row))
  for (const { agentId, domain, enabled, id, port, protocol, target } of isPlain ? served.filter(isHttp) : served) {
    const agentVirtualIp = tables.agent.get(agentId)?.virtualIp
    tunnels.set(
      id,
      canonical({
        id,
        domain,
        agentVirtualIp,
        target,
        enabled,
        ...(isPlain ? {} : { ...httpTunnelFields, protocol, port })
      })
    )
  }
  const peers = new Map<string, string>()
  for (const row of tables.agent.values()) {
    if (!arePeers(tables, gateway, row.id)) continue
    const { id, name, publicKey: wireguardPublicKey, subnet, virtualIp } = row
    const peer = { id, name, virtualIp, subnet, wireguardPublicKey }
    peers.set(id, canonical(isPlain ? peer : { ...peer, gatewayVirtualIp: gatewayAddress(row, gateway) }))
  }
  const certificates = new Map<string, string>()
  const covered = [...tables.certificate.values()].filter(({ id }) =>
    gateway.serves === null || served.some((row) => isHttp(row) && covers(id, row.domain))
  )
  for (const row of covered) certificates.set(row.id, certificateForGateway(row))
  const { listenPort, name } = gateway
  const own = { id, name, ...ownKeys(gateway, isPlain), ...(isPlain ? {} : { listenPort }) }
  return { own: canonical(own), peers, tunnels, certificates }
}

/** Tunnels that the plain level knows, and that need a certificate. */
export const isHttp = ({ protocol = "http" }: TunnelRow): boolean => protocol === "http"

/** Whether a name covers a domain: the same name, or a wildcard in place of the domain's first label. */
function covers(name: string, domain: string): boolean {
  return name === domain || name.startsWith("*.") && domain.endsWith(name.slice(1)) &&
      !domain.slice(0, 1 - name.length).includes(".") && domain.length >= name.length
}

/** Whether this gateway serves this tunnel. */
export const isServedBy = ({ serves }: GatewayRow, { agentId, domain }: TunnelRow): boolean =>
  serves === null || serves.agents.includes(agentId) || serves.domains.some((name) => covers(name, domain))

function arePeers({ tunnel }: Tables, gateway: GatewayRow, agent: string): boolean {
  return gateway.serves === null || gateway.serves.agents.includes(agent) ||
    [...tunnel.values()].some((row) => row.agentId === agent && isServedBy(gateway, row))
}

/**
 * The plain level sends the private key only. `control.v1` sends both keys, without a private key that the client keeps to
 * itself.
 */
function ownKeys({ privateKey, publicKey }: AgentRow | GatewayRow, isPlain: boolean): object {
  if (isPlain) return { wireguardPrivateKey: privateKey ?? "" }
  return { wireguardPublicKey: publicKey, ...(privateKey === null ? {} : { wireguardPrivateKey: privateKey }) }
}

const tunnelForAgent = memoize(({ domain, enabled, id, target }: TunnelRow) =>
  canonical({ id, domain, target, enabled })
)
const tunnelForAgentV1 = memoize(({ domain, enabled, id, port, protocol, target }: TunnelRow) =>
  canonical({ id, domain, target, enabled, ...httpTunnelFields, protocol, port })
)
const certificateForGateway = memoize(({ certificate, expiresAt, id: domain, privateKey }: CertificateRow) =>
  canonical({ domain, certificate, privateKey, expiresAt })
)

/** The gateway's address in the agent's /24: .2 for slot 0, up to .254. */
function gatewayAddress({ subnet }: AgentRow, { slot }: GatewayRow): string | null {
  return slot + 2 < 255 ? subnet.replace(/\d+\/24$/u, String(slot + 2)) : null
}

/** Computes the text of each immutable row once. */
function memoize<Row extends object>(make: (row: Row) => string): (row: Row) => string {
  const cache = new WeakMap<Row, string>()
  return (row) => {
    const cached = cache.get(row)
    if (cached !== undefined) return cached
    const text = make(row)
    cache.set(row, text)
    return text
  }
}

function sameRows(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  if (a.size !== b.size) return false
  for (const [id, row] of a) if (b.get(id) !== row) return false
  return true
}

function describeRows(name: string, view: ReadonlyMap<string, string>, truth: ReadonlyMap<string, string>): string {
  const ids = new Set([...view.keys(), ...truth.keys()])
  const wrong = [...ids].filter((id) => view.get(id) !== truth.get(id))
  return wrong.map((id) => `${name}: ${view.get(id) ?? "nothing"} should be ${truth.get(id) ?? "nothing"}`).join(", ")
}
