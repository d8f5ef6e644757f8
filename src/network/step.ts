/** Which clients a change concerns, and as what they are told of it. Pure. */
import type { ControlMessage } from "#schema/control.ts"
import type { AgentId, ClientRef, GatewayId, Revision, TunnelId } from "#schema/ids.ts"
import { Equal, HashMap, Option } from "effect"
import * as Table from "./Table.ts"
import type { Agent, Certificate, Change, Gateway, NetworkState, Tunnel } from "./NetworkState.ts"
import {
  agentForGateways,
  certificateForGateways,
  ownAgent,
  ownGateway,
  tunnelForAgent,
  tunnelForGateways
} from "./view.ts"

/** Who gets the same steps in the same order: all gateways, all agents (what concerns each of them), or one agent. */
export type Audience = "gateways" | "agents" | `agent:${AgentId}`

/** The audiences that a client follows. */
export const audiencesOf = (client: ClientRef): ReadonlyArray<Audience> =>
  client.type === "gateway" ? ["gateways"] : ["agents", `agent:${client.id}`]

/**
 * How one audience learns of a change. `Message`: this message. `Whole`: the view changed in a way that the plain level has
 * no message for, so it is sent whole. `WholeFor`: the same, for one gateway of the audience; the others see no change.
 */
export type Delta =
  | { readonly _tag: "Message"; readonly message: ControlMessage }
  | { readonly _tag: "Whole" }
  | { readonly _tag: "WholeFor"; readonly gateway: GatewayId }

export interface Step {
  readonly revision: Revision
  readonly audience: Audience
  readonly delta: Delta
}

/**
 * The steps of one change, from the state before it to the state after it. An audience whose view stays the same gets
 * none: config at R plus the steps up to R' is the view at R', for every client.
 */
export const steps = (before: NetworkState, after: NetworkState, change: Change): ReadonlyArray<Step> => {
  const { revision } = change
  const to = (audience: Audience, delta: Delta): Step => ({ revision, audience, delta })
  switch (change._tag) {
    case "AgentPut":
      return agentSteps(Table.get(before.agents, change.agent.id), Option.some(change.agent), to)
    case "AgentRemoved":
      return agentSteps(Table.get(before.agents, change.id), Option.none(), to)
    case "GatewayPut":
      return gatewaySteps(HashMap.get(before.gateways, change.gateway.id), Option.some(change.gateway), to)
    case "GatewayRemoved":
      return gatewaySteps(HashMap.get(before.gateways, change.id), Option.none(), to)
    case "TunnelPut":
      return tunnelSteps(before, after, change.tunnel.id, to)
    case "TunnelRemoved":
      return tunnelSteps(before, after, change.id, to)
    case "CertificatePut":
      return certificateSteps(
        Table.get(before.certificates, change.certificate.domain),
        Option.some(change.certificate),
        to
      )
    case "CertificateRemoved":
      return certificateSteps(Table.get(before.certificates, change.domain), Option.none(), to)
    case "KeyPut":
    case "KeyRemoved":
      return []
  }
}

type To = (audience: Audience, delta: Delta) => Step

const whole: Delta = { _tag: "Whole" }

function agentSteps(before: Option.Option<Agent>, after: Option.Option<Agent>, to: To): ReadonlyArray<Step> {
  const result: Array<Step> = []
  if (differs(before, after, agentForGateways)) result.push(to("gateways", whole))
  if (Option.isSome(before) && Option.isSome(after) && differs(before, after, ownAgent)) {
    result.push(to(`agent:${after.value.id}`, whole))
  }
  return result
}

function gatewaySteps(before: Option.Option<Gateway>, after: Option.Option<Gateway>, to: To): ReadonlyArray<Step> {
  const result: Array<Step> = []
  if (differs(before, after, seenByAgents)) result.push(to("agents", whole))
  if (Option.isSome(before) && Option.isSome(after) && differs(before, after, ownGateway)) {
    result.push(to("gateways", { _tag: "WholeFor", gateway: after.value.id }))
  }
  return result
}

function seenByAgents({ id, name, publicIp, slot, wireguardPublicKey }: Gateway) {
  return { id, name, publicIp, slot, wireguardPublicKey }
}

function certificateSteps(
  before: Option.Option<Certificate>,
  after: Option.Option<Certificate>,
  to: To
): ReadonlyArray<Step> {
  return differs(before, after, certificateForGateways) ? [to("gateways", whole)] : []
}

/** A move is no case of its own: the tunnel leaves one agent's view, enters another's, and changes in the gateways'. */
function tunnelSteps(before: NetworkState, after: NetworkState, id: TunnelId, to: To): ReadonlyArray<Step> {
  const old = Table.get(before.tunnels, id)
  const current = Table.get(after.tunnels, id)
  const agents = new Set([old, current].flatMap((tunnel) => Option.isSome(tunnel) ? [tunnel.value.agentId] : []))
  const result: Array<Step> = []
  for (const agentId of agents) {
    const mine = Option.filter((tunnel: Tunnel) => tunnel.agentId === agentId)
    const message = tunnelMessage(id, Option.map(mine(old), tunnelForAgent), Option.map(mine(current), tunnelForAgent))
    if (message !== undefined) result.push(to(`agent:${agentId}`, { _tag: "Message", message }))
  }
  const message = tunnelMessage(id, forGateways(before, old), forGateways(after, current))
  if (message !== undefined) result.push(to("gateways", { _tag: "Message", message }))
  return result
}

function forGateways(state: NetworkState, tunnel: Option.Option<Tunnel>) {
  return Option.flatMap(
    tunnel,
    (tunnel) =>
      Option.map(
        HashMap.get(state.virtualIps, tunnel.agentId),
        (virtualIp) => tunnelForGateways(tunnel, virtualIp)
      )
  )
}

function tunnelMessage<Seen extends ReturnType<typeof tunnelForAgent> | ReturnType<typeof tunnelForGateways>>(
  id: TunnelId,
  before: Option.Option<Seen>,
  after: Option.Option<Seen>
): ControlMessage | undefined {
  if (Option.isNone(after)) return Option.isNone(before) ? undefined : { type: "tunnel_delete", data: { id } }
  if (Option.isNone(before)) return { type: "tunnel_create", data: after.value }
  return Equal.equals(before.value, after.value) ? undefined : { type: "tunnel_update", data: after.value }
}

function differs<A>(before: Option.Option<A>, after: Option.Option<A>, seen: (row: A) => object): boolean {
  return !Equal.equals(Option.map(before, seen), Option.map(after, seen))
}
