/** Which clients a change concerns, and what has happened for them; `tell.ts` says how each level is told of it. Pure. */
import type { ControlMessage } from "#schema/control.ts"
import type { AgentId, ClientRef, Revision, TunnelId } from "#schema/ids.ts"
import { Equal, HashMap, Option } from "effect"
import type { Agent, Certificate, Change, Gateway, NetworkState, Tunnel } from "./NetworkState.ts"
import * as Table from "./Table.ts"
import { tunnelForAgent, tunnelForGateways } from "./view.ts"

/** Who gets the same steps in the same order: all gateways, all agents (what concerns each of them), or one agent. */
export type Audience = "gateways" | "agents" | `agent:${AgentId}`

/** The audiences that a client follows. */
export const audiencesOf = (client: ClientRef): ReadonlyArray<Audience> =>
  client.type === "gateway" ? ["gateways"] : ["agents", `agent:${client.id}`]

export type TunnelMessage = Extract<ControlMessage, { type: "tunnel_create" | "tunnel_update" | "tunnel_delete" }>

/** A row before and after a change; undefined where it is not there. */
interface BeforeAndAfter<Row> {
  readonly before: Row | undefined
  readonly after: Row | undefined
}

/**
 * What has happened, as far as one audience can see it. `Tunnel`: at every level this message. `Own`: this client's own row,
 * which concerns nobody else of the audience. `Agent`: `uproots` when tunnels in the view get another address by it.
 */
export type Delta =
  | { readonly _tag: "Tunnel"; readonly message: TunnelMessage }
  | ({ readonly _tag: "Agent"; readonly uproots: boolean } & BeforeAndAfter<Agent>)
  | ({ readonly _tag: "Gateway" } & BeforeAndAfter<Gateway>)
  | ({ readonly _tag: "Certificate" } & BeforeAndAfter<Certificate>)
  | { readonly _tag: "Own"; readonly client: "agent"; readonly before: Agent; readonly after: Agent }
  | { readonly _tag: "Own"; readonly client: "gateway"; readonly before: Gateway; readonly after: Gateway }

export interface Step {
  readonly revision: Revision
  readonly audience: Audience
  readonly delta: Delta
}

/**
 * The steps of one change, from the state before it to the state after it. An audience that cannot see any of it gets none:
 * config at R plus the steps up to R' is the view at R', for every client.
 */
export const steps = (before: NetworkState, after: NetworkState, change: Change): ReadonlyArray<Step> => {
  const { revision } = change
  const to = (audience: Audience, delta: Delta): Step => ({ revision, audience, delta })
  switch (change._tag) {
    case "AgentPut":
      return agentSteps(before, after, change.agent.id, to)
    case "AgentRemoved":
      return agentSteps(before, after, change.id, to)
    case "GatewayPut":
      return gatewaySteps(Option.getOrUndefined(HashMap.get(before.gateways, change.gateway.id)), change.gateway, to)
    case "GatewayRemoved":
      return gatewaySteps(Option.getOrUndefined(HashMap.get(before.gateways, change.id)), undefined, to)
    case "TunnelPut":
      return tunnelSteps(before, after, change.tunnel.id, to)
    case "TunnelRemoved":
      return tunnelSteps(before, after, change.id, to)
    case "CertificatePut":
      return certificateSteps(before, change.certificate.domain, change.certificate, to)
    case "CertificateRemoved":
      return certificateSteps(before, change.domain, undefined, to)
    case "KeyPut":
    case "KeyRemoved":
      return []
  }
}

type To = (audience: Audience, delta: Delta) => Step

function agentSteps(old: NetworkState, current: NetworkState, id: AgentId, to: To): ReadonlyArray<Step> {
  const before = Option.getOrUndefined(Table.get(old.agents, id))
  const after = Option.getOrUndefined(Table.get(current.agents, id))
  if (Equal.equals(before, after)) return []
  const uproots = before?.virtualIp !== after?.virtualIp && HashMap.has(current.tunnelsOf, id)
  const result = [to("gateways", { _tag: "Agent", uproots, before, after })]
  if (before !== undefined && after !== undefined) {
    result.push(to(`agent:${id}`, { _tag: "Own", client: "agent", before, after }))
  }
  return result
}

function gatewaySteps(before: Gateway | undefined, after: Gateway | undefined, to: To): ReadonlyArray<Step> {
  if (Equal.equals(before, after)) return []
  const result = [to("agents", { _tag: "Gateway", before, after })]
  // A new address, which comes with many a reconnect, is no news to itself: nobody is woken for it.
  if (before !== undefined && after !== undefined && !Equal.equals({ ...before, publicIp: after.publicIp }, after)) {
    result.push(to("gateways", { _tag: "Own", client: "gateway", before, after }))
  }
  return result
}

function certificateSteps(
  old: NetworkState,
  domain: string,
  after: Certificate | undefined,
  to: To
): ReadonlyArray<Step> {
  const before = Option.getOrUndefined(Table.get(old.certificates, domain))
  return Equal.equals(before, after) ? [] : [to("gateways", { _tag: "Certificate", before, after })]
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
    if (message !== undefined) result.push(to(`agent:${agentId}`, { _tag: "Tunnel", message }))
  }
  const message = tunnelMessage(id, forGateways(before, old), forGateways(after, current))
  if (message !== undefined) result.push(to("gateways", { _tag: "Tunnel", message }))
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
): TunnelMessage | undefined {
  if (Option.isNone(after)) return Option.isNone(before) ? undefined : { type: "tunnel_delete", data: { id } }
  if (Option.isNone(before)) return { type: "tunnel_create", data: after.value }
  return Equal.equals(before.value, after.value) ? undefined : { type: "tunnel_update", data: after.value }
}
