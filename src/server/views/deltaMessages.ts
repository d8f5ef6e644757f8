/** Renders deltas as messages; the only place where the protocol levels differ in their deltas. Pure. */
import type { ClientRef, Revision } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { Equal, HashMap, Option } from "effect"
import { gatewayAddresses } from "#network/addresses.ts"
import type { Gateway, NetworkState } from "#network/NetworkState.ts"
import type { DeltaContent, TunnelMessage } from "./delta.ts"
import * as BucketMap from "#network/BucketMap.ts"
import {
  agentForGateways,
  agentForGatewayV1,
  certificateForGateways,
  gatewayForAgentV1,
  ownAgent,
  ownAgentV1,
  ownGateway,
  ownGatewayV1
} from "./view.ts"

/** A client that receives deltas, with its level and the facts on which other clients' addresses in its view depend. */
export interface Receiver {
  readonly ref: ClientRef
  readonly level: Level
  /** An agent's own subnet; empty for a gateway. */
  readonly subnet: string
  /** A gateway's slot; 0 for an agent. */
  readonly slot: number
}

/** The receiver in this state; undefined if the client does not exist. */
export const receiverIn = (state: NetworkState, ref: ClientRef, level: Level): Receiver | undefined => {
  if (ref.type === "agent") {
    const agent = Option.getOrUndefined(BucketMap.get(state.agents, ref.id))
    return agent && { ref, level, subnet: agent.subnet, slot: 0 }
  }
  const gateway = Option.getOrUndefined(HashMap.get(state.gateways, ref.id))
  return gateway && { ref, level, subnet: "", slot: gateway.slot }
}

/** A message about one row of a view: its new content or its removal, without the revisions that `control.v1` adds. */
export interface ViewMessage {
  readonly type: string
  readonly data: object
}

/** A message, and the revision of the change that it is about. */
export interface MessageAtRevision {
  readonly revision: Revision
  readonly message: ViewMessage
}

/**
 * A delta rendered for one receiver. `None`: its view does not change. `Resync`: its level has no message for the delta, so a
 * config must be sent.
 */
export type Rendering =
  | { readonly _tag: "None" }
  | { readonly _tag: "Resync" }
  | { readonly _tag: "Message"; readonly message: ViewMessage }

export const messageFor = (delta: DeltaContent, receiver: Receiver): Rendering =>
  renderers[receiver.level](delta, receiver)

/** Whether all receivers of this level get the same message, so that it is encoded once. */
export const isShared = (delta: DeltaContent, level: Level): boolean =>
  delta._tag === "Tunnel" || delta._tag === "Certificate" || delta._tag === "Rescoped" ||
  level === "plain" && (delta._tag === "Agent" || delta._tag === "Gateway")

/** The text of a message's frame; in `control.v1` with its revision and the revision of the previous message. */
export const encodeViewMessage: Record<
  Level,
  (message: ViewMessage, revision: Revision, previous: Revision) => string
> = {
  plain: (message) => JSON.stringify(message),
  "control.v1": ({ data, type }, revision, previous) => JSON.stringify({ type, revision, previous, data })
}

/** Whether a message of this level contains the revision of the previous message. */
export const includesPrevious: Record<Level, boolean> = { plain: false, "control.v1": true }

const none: Rendering = { _tag: "None" }
const resync: Rendering = { _tag: "Resync" }
const message = (type: string, data: object): Rendering => ({ _tag: "Message", message: { type, data } })

const tunnelMessage = (seen: TunnelMessage | undefined): Rendering =>
  seen === undefined ? none : message(seen.type, seen.data)

type Renderer = (delta: DeltaContent, receiver: Receiver) => Rendering

/** The plain level has messages only for tunnels. */
const renderPlain: Renderer = (delta, { ref }) => {
  switch (delta._tag) {
    case "Tunnel":
      return tunnelMessage(delta.messages.plain)
    case "Agent":
      return differs(delta, agentForGateways) ? resync : none
    case "Gateway":
      return differs(delta, gatewayAtPlainLevel) ? resync : none
    case "Certificate":
    case "Rescoped":
      return resync
    case "Own": {
      const changed = delta.client === "agent" ? differs(delta, ownAgent) : differs(delta, ownGatewayAndScope)
      return delta.after.id === ref.id && changed ? resync : none
    }
  }
}

const renderV1: Renderer = (delta, { ref, slot, subnet }) => {
  switch (delta._tag) {
    case "Tunnel":
      return tunnelMessage(delta.messages["control.v1"])
    case "Agent": {
      if (delta.movesTunnels) return resync
      if (!differs(delta, agentForGateways)) return none
      return changed("agent", delta, (agent) => agentForGatewayV1(agent, slot), ({ id }) => ({ id }))
    }
    case "Gateway":
      return changed(
        "gateway",
        delta,
        (gateway) => gatewayForAgentV1(gateway, gatewayAddresses(subnet)),
        ({ id }) => ({ id })
      )
    case "Certificate":
      return changed("certificate", delta, certificateForGateways, ({ domain }) => ({ domain }))
    case "Rescoped":
      return resync
    case "Own": {
      const changed = delta.client === "agent" ? differs(delta, ownAgentV1) : differs(delta, ownGatewaySlotAndScope)
      return delta.after.id === ref.id && changed ? resync : none
    }
  }
}

const renderers: Record<Level, Renderer> = { plain: renderPlain, "control.v1": renderV1 }

function changed<Row>(
  entity: string,
  { after, before }: { readonly before: Row | undefined; readonly after: Row | undefined },
  content: (row: Row) => object,
  key: (row: Row) => object
): Rendering {
  if (after === undefined) return before === undefined ? none : message(`${entity}_delete`, key(before))
  if (before === undefined) return message(`${entity}_create`, content(after))
  const data = content(after)
  return Equal.equals(content(before), data) ? none : message(`${entity}_update`, data)
}

function differs<Row>(
  { after, before }: { readonly before: Row | undefined; readonly after: Row | undefined },
  content: (row: Row) => object
): boolean {
  if (before === undefined || after === undefined) return before !== after
  return !Equal.equals(content(before), content(after))
}

/** The fields of a gateway that agents of the plain level see; the port is not one of them. */
function gatewayAtPlainLevel({ id, name, publicIp, slot, wireguardPublicKey }: Gateway) {
  return { id, name, publicIp, slot, wireguardPublicKey }
}

/** The scope is included because it decides which other rows the gateway sees. */
function ownGatewayAndScope(gateway: Gateway) {
  return { ...ownGateway(gateway), serves: gateway.serves }
}

/** The slot is included because it decides the gateway's address in every agent's subnet. */
function ownGatewaySlotAndScope(gateway: Gateway) {
  return { ...ownGatewayV1(gateway), slot: gateway.slot, serves: gateway.serves }
}
