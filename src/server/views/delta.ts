/** Deltas: the difference that one change makes to the view of one audience. Pure. */
import type { ControlMessage } from "#schema/messagesFromControl.ts"
import type { Revision, TunnelId } from "#schema/ids.ts"
import { Equal, HashMap, Option } from "effect"
import type { Agent, Certificate, Gateway, NetworkState, Tunnel } from "#network/NetworkState.ts"
import type { Topic } from "#network/scope.ts"
import { type tunnelForAgent, tunnelForGateways } from "./view.ts"

/** Clients that receive the same deltas in the same order: the subscribers of one topic, or all agents. */
export type Audience = Topic | "agents"

export type TunnelMessage = Extract<ControlMessage, { type: "tunnel_create" | "tunnel_update" | "tunnel_delete" }>

/** A row before and after a change; undefined where it does not exist. */
interface BeforeAndAfter<Row> {
  readonly before: Row | undefined
  readonly after: Row | undefined
}

/**
 * The difference as one audience sees it. `Tunnel`: this message, the same at every protocol level. `Own`: the own row of one
 * client of the audience. `Agent`: `movesTunnels` if tunnels in the view get another address. `Rescoped`: one change brought
 * several rows into the view or removed several.
 */
export type DeltaContent =
  | { readonly _tag: "Tunnel"; readonly message: TunnelMessage }
  | ({ readonly _tag: "Agent"; readonly movesTunnels: boolean } & BeforeAndAfter<Agent>)
  | ({ readonly _tag: "Gateway" } & BeforeAndAfter<Gateway>)
  | ({ readonly _tag: "Certificate" } & BeforeAndAfter<Certificate>)
  | { readonly _tag: "Rescoped" }
  | { readonly _tag: "Own"; readonly client: "agent"; readonly before: Agent; readonly after: Agent }
  | { readonly _tag: "Own"; readonly client: "gateway"; readonly before: Gateway; readonly after: Gateway }

/** The content of a delta, with its audience and the revision of its change. */
export interface Delta {
  readonly revision: Revision
  readonly audience: Audience
  readonly content: DeltaContent
}

/** Makes a delta of the change at hand. */
export type MakeDelta = (audience: Audience, content: DeltaContent) => Delta

/** A tunnel as gateways see it; none if its agent does not exist, because no gateway sees such a tunnel. */
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

/** The message for a tunnel that an audience saw as `before` and sees as `after`; undefined without a difference. */
export function tunnelMessageFor<Seen extends ReturnType<typeof tunnelForAgent> | ReturnType<typeof tunnelForGateways>>(
  id: TunnelId,
  before: Option.Option<Seen>,
  after: Option.Option<Seen>
): TunnelMessage | undefined {
  if (Option.isNone(after)) return Option.isNone(before) ? undefined : { type: "tunnel_delete", data: { id } }
  if (Option.isNone(before)) return { type: "tunnel_create", data: after.value }
  return Equal.equals(before.value, after.value) ? undefined : { type: "tunnel_update", data: after.value }
}
