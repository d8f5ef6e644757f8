/** Deltas: the difference that one change makes to the view of one audience. Pure. */
import type { ControlMessage } from "#schema/messagesFromControl.ts"
import type { Level } from "#schema/protocol.ts"
import type { AgentTunnel, AgentTunnelV1, GatewayTunnel, GatewayTunnelV1 } from "#schema/views.ts"
import type { Revision, TunnelId } from "#schema/ids.ts"
import { Equal, HashMap, Option } from "effect"
import type { Agent, Certificate, Gateway, NetworkState, Tunnel } from "#network/NetworkState.ts"
import type { Topic } from "#network/scope.ts"
import { isAtPlainLevel, tunnelForAgent, tunnelForAgentV1, tunnelForGateways, tunnelForGatewaysV1 } from "./view.ts"

/** Clients that receive the same deltas in the same order: the subscribers of one topic, or all agents. */
export type Audience = Topic | "agents"

type TunnelMessageType = "tunnel_create" | "tunnel_update" | "tunnel_delete"

export interface TunnelMessage {
  readonly type: Extract<ControlMessage, { type: TunnelMessageType }>["type"]
  readonly data: SeenTunnel | { readonly id: TunnelId }
}

type SeenTunnel = AgentTunnel | AgentTunnelV1 | GatewayTunnel | GatewayTunnelV1

/** The message of each level; undefined where the level sees no difference. */
export type TunnelMessages = { readonly [level in Level]: TunnelMessage | undefined }

/** A row before and after a change; undefined where it does not exist. */
interface BeforeAndAfter<Row> {
  readonly before: Row | undefined
  readonly after: Row | undefined
}

/**
 * The difference as one audience sees it. `Tunnel`: these messages. `Own`: the own row of one
 * client of the audience. `Agent`: `movesTunnels` if tunnels in the view get another address. `Rescoped`: one change brought
 * several rows into the view or removed several.
 */
export type DeltaContent =
  | { readonly _tag: "Tunnel"; readonly messages: TunnelMessages }
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

/** The delta of a tunnel for its agent; undefined without a difference. Each row is absent where the agent does not see it. */
export const tunnelDeltaForAgent = (
  id: TunnelId,
  before: Option.Option<Tunnel>,
  after: Option.Option<Tunnel>
): DeltaContent | undefined =>
  contentOf({
    plain: messageOf(
      id,
      Option.map(atPlainLevel(before), tunnelForAgent),
      Option.map(atPlainLevel(after), tunnelForAgent)
    ),
    "control.v1": messageOf(id, Option.map(before, tunnelForAgentV1), Option.map(after, tunnelForAgentV1))
  })

/** The delta of a tunnel for gateways, which see no tunnel whose agent does not exist; undefined without a difference. */
export const tunnelDeltaForGateways = (
  id: TunnelId,
  old: NetworkState,
  before: Option.Option<Tunnel>,
  current: NetworkState,
  after: Option.Option<Tunnel>
): DeltaContent | undefined =>
  contentOf({
    plain: messageOf(
      id,
      seenByGateways(old, atPlainLevel(before), tunnelForGateways),
      seenByGateways(current, atPlainLevel(after), tunnelForGateways)
    ),
    "control.v1": messageOf(
      id,
      seenByGateways(old, before, tunnelForGatewaysV1),
      seenByGateways(current, after, tunnelForGatewaysV1)
    )
  })

const atPlainLevel = Option.filter(isAtPlainLevel)

const seenByGateways = <Seen>(
  state: NetworkState,
  tunnel: Option.Option<Tunnel>,
  render: (tunnel: Tunnel, agentVirtualIp: string) => Seen
): Option.Option<Seen> =>
  Option.flatMap(
    tunnel,
    (tunnel) => Option.map(HashMap.get(state.virtualIps, tunnel.agentId), (virtualIp) => render(tunnel, virtualIp))
  )

const contentOf = (messages: TunnelMessages): DeltaContent | undefined =>
  messages.plain === undefined && messages["control.v1"] === undefined ? undefined : { _tag: "Tunnel", messages }

/** The message for a tunnel that an audience saw as `before` and sees as `after`; undefined without a difference. */
function messageOf<Seen extends SeenTunnel>(
  id: TunnelId,
  before: Option.Option<Seen>,
  after: Option.Option<Seen>
): TunnelMessage | undefined {
  if (Option.isNone(after)) return Option.isNone(before) ? undefined : { type: "tunnel_delete", data: { id } }
  if (Option.isNone(before)) return { type: "tunnel_create", data: after.value }
  return Equal.equals(before.value, after.value) ? undefined : { type: "tunnel_update", data: after.value }
}
