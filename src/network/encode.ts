/**
 * A client's config as JSON text, joined from parts: each row is encoded once when it changes, not once for each client.
 * What the parts look like is `view`'s business; a property holds the two together.
 */
import type { ClientRef, GatewayId } from "#schema/ids.ts"
import { HashMap, Option } from "effect"
import type { Agent, Certificate, Gateway, NetworkState, Tunnel } from "./NetworkState.ts"
import {
  agentForGateways,
  certificateForGateways,
  gatewayForAgent,
  ownAgent,
  ownGateway,
  tunnelForAgent,
  tunnelForGateways,
  tunnelsOfAgent
} from "./view.ts"

/**
 * The `config` message for a client, as the text of its frame in two parts to be sent one after the other. `shared` is the
 * same string, not just an equal one, for all clients that share it in this state, so that it can be turned into bytes
 * once. Undefined when the state does not know the client.
 */
export const encodeConfig = (
  state: NetworkState,
  client: ClientRef
): { readonly own: string; readonly shared: SharedText } | undefined =>
  client.type === "gateway" ? encodeForGateway(state, client.id) : encodeForAgent(state, client)

/** Text that many configs end with; its identity is what caches go by. */
export interface SharedText {
  readonly text: string
}

const nothingShared: SharedText = { text: "" }

function encodeForGateway(state: NetworkState, id: GatewayId) {
  const gateway = HashMap.get(state.gateways, id)
  return Option.isNone(gateway)
    ? undefined
    : { own: `{"type":"config","data":{"gateway":${ownGatewayJson(gateway.value)},`, shared: allForGateways(state) }
}

/** Good for as long as the three maps that it is made of are the same values, whatever else has changed. */
const sharedByAgents = new WeakMap<
  NetworkState["agents"],
  Pick<NetworkState, "tunnels" | "certificates"> & { readonly shared: SharedText }
>()

function allForGateways(state: NetworkState): SharedText {
  const known = sharedByAgents.get(state.agents)
  if (known !== undefined && known.tunnels === state.tunnels && known.certificates === state.certificates)
    return known.shared
  const agents: Array<string> = []
  for (const agent of HashMap.values(state.agents)) agents.push(agentForGatewaysJson(agent))
  const tunnels: Array<string> = []
  for (const tunnel of HashMap.values(state.tunnels)) {
    const agent = HashMap.get(state.agents, tunnel.agentId)
    if (Option.isSome(agent)) tunnels.push(tunnelForGatewaysJson(tunnel, agent.value.virtualIp))
  }
  const certificates = HashMap.toValues(state.certificates).map(certificateJson)
  const shared = {
    text: `"agents":[${agents.join()}],"tunnels":[${tunnels.join()}],"certificates":[${certificates.join()}]}}`
  }
  sharedByAgents.set(state.agents, { tunnels: state.tunnels, certificates: state.certificates, shared })
  return shared
}

function encodeForAgent(state: NetworkState, client: Extract<ClientRef, { type: "agent" }>) {
  const agent = HashMap.get(state.agents, client.id)
  if (Option.isNone(agent)) return undefined
  const gateways = HashMap.toValues(state.gateways).map((gateway) =>
    JSON.stringify(gatewayForAgent(gateway, agent.value.subnet))
  )
  const tunnels = tunnelsOfAgent(state, client.id).map(tunnelForAgentJson)
  const own = `{"type":"config","data":{"agent":${
    ownAgentJson(agent.value)
  },"gateways":[${gateways.join()}],"tunnels":[${tunnels.join()}]}}`
  return { own, shared: nothingShared }
}

const ownAgentJson = remembered((agent: Agent) => JSON.stringify(ownAgent(agent)))
const ownGatewayJson = remembered((gateway: Gateway) => JSON.stringify(ownGateway(gateway)))
const agentForGatewaysJson = remembered((agent: Agent) => JSON.stringify(agentForGateways(agent)))
const certificateJson = remembered((certificate: Certificate) => JSON.stringify(certificateForGateways(certificate)))
const tunnelForAgentJson = remembered((tunnel: Tunnel) => JSON.stringify(tunnelForAgent(tunnel)))

const tunnelForGatewaysMemo = new WeakMap<Tunnel, { readonly agentVirtualIp: string; readonly json: string }>()

function tunnelForGatewaysJson(tunnel: Tunnel, agentVirtualIp: string): string {
  const known = tunnelForGatewaysMemo.get(tunnel)
  if (known?.agentVirtualIp === agentVirtualIp) return known.json
  const json = JSON.stringify(tunnelForGateways(tunnel, agentVirtualIp))
  tunnelForGatewaysMemo.set(tunnel, { agentVirtualIp, json })
  return json
}

/** Rows are immutable, so a row's text is as good as the row; it goes when the row goes. */
function remembered<Row extends object>(encode: (row: Row) => string): (row: Row) => string {
  const texts = new WeakMap<Row, string>()
  return (row) => {
    const known = texts.get(row)
    if (known !== undefined) return known
    const text = encode(row)
    texts.set(row, text)
    return text
  }
}
