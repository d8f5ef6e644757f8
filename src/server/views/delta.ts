/** What has happened for whom: what steps consist of. Pure. */
import type { ControlMessage } from "#schema/controlMessages.ts"
import type { Revision, TunnelId } from "#schema/ids.ts"
import { Equal, HashMap, Option } from "effect"
import type { Agent, Certificate, Gateway, NetworkState, Tunnel } from "#network/NetworkState.ts"
import type { Topic } from "#network/scope.ts"
import { type tunnelForAgent, tunnelForGateways } from "./view.ts"

/** Who gets the same steps in the same order: those who follow one topic, or all agents (what concerns each of them). */
export type Audience = Topic | "agents"

export type TunnelMessage = Extract<ControlMessage, { type: "tunnel_create" | "tunnel_update" | "tunnel_delete" }>

/** A row before and after a change; undefined where it is not there. */
interface BeforeAndAfter<Row> {
  readonly before: Row | undefined
  readonly after: Row | undefined
}

/**
 * What has happened, as far as one audience can see it. `Tunnel`: at every level this message. `Own`: this client's own row,
 * which concerns nobody else of the audience. `Agent`: `uproots` when tunnels in the view get another address by it.
 * `Rescoped`: several rows have come into the view or left it by one change.
 */
export type Delta =
  | { readonly _tag: "Tunnel"; readonly message: TunnelMessage }
  | ({ readonly _tag: "Agent"; readonly uproots: boolean } & BeforeAndAfter<Agent>)
  | ({ readonly _tag: "Gateway" } & BeforeAndAfter<Gateway>)
  | ({ readonly _tag: "Certificate" } & BeforeAndAfter<Certificate>)
  | { readonly _tag: "Rescoped" }
  | { readonly _tag: "Own"; readonly client: "agent"; readonly before: Agent; readonly after: Agent }
  | { readonly _tag: "Own"; readonly client: "gateway"; readonly before: Gateway; readonly after: Gateway }

export interface Step {
  readonly revision: Revision
  readonly audience: Audience
  readonly delta: Delta
}

export type To = (audience: Audience, delta: Delta) => Step

/** A tunnel as gateways see it; one without its agent is in no gateway's view. */
export function forGateways(state: NetworkState, tunnel: Option.Option<Tunnel>) {
  return Option.flatMap(
    tunnel,
    (tunnel) =>
      Option.map(
        HashMap.get(state.virtualIps, tunnel.agentId),
        (virtualIp) => tunnelForGateways(tunnel, virtualIp)
      )
  )
}

/** How one audience is told of a tunnel that it saw like this, and sees like that. */
export function tunnelMessage<Seen extends ReturnType<typeof tunnelForAgent> | ReturnType<typeof tunnelForGateways>>(
  id: TunnelId,
  before: Option.Option<Seen>,
  after: Option.Option<Seen>
): TunnelMessage | undefined {
  if (Option.isNone(after)) return Option.isNone(before) ? undefined : { type: "tunnel_delete", data: { id } }
  if (Option.isNone(before)) return { type: "tunnel_create", data: after.value }
  return Equal.equals(before.value, after.value) ? undefined : { type: "tunnel_update", data: after.value }
}
