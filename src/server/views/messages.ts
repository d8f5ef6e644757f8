/** How a client is told of what has happened: the one place where the levels differ in that. Pure. */
import type { ClientRef, Revision } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { Equal, HashMap, Option } from "effect"
import { gatewayAddresses } from "#network/addresses.ts"
import type { Gateway, NetworkState } from "#network/NetworkState.ts"
import type { Delta } from "./delta.ts"
import * as Table from "#network/BucketMap.ts"
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

/** Who is told, at which level, and where it stands in the network: what its view of others' addresses depends on. */
export interface Receiver {
  readonly ref: ClientRef
  readonly level: Level
  /** An agent's own subnet. */
  readonly subnet: string
  /** A gateway's slot. */
  readonly slot: number
}

/** Undefined when the state does not know the client. */
export const receiverIn = (state: NetworkState, ref: ClientRef, level: Level): Receiver | undefined => {
  if (ref.type === "agent") {
    const agent = Option.getOrUndefined(Table.get(state.agents, ref.id))
    return agent && { ref, level, subnet: agent.subnet, slot: 0 }
  }
  const gateway = Option.getOrUndefined(HashMap.get(state.gateways, ref.id))
  return gateway && { ref, level, subnet: "", slot: gateway.slot }
}

/** One part of a view as it is now, or that it is gone; without the place in the order that `control.v1` adds. */
export interface Part {
  readonly type: string
  readonly data: object
}

/** A part of the view, and the revision at which it became so. */
export interface Placed {
  readonly revision: Revision
  readonly part: Part
}

/** `Nothing`: its view stays the same. `Whole`: no message of its level says it, so the view is sent whole. */
export type Rendering =
  | { readonly _tag: "Nothing" }
  | { readonly _tag: "Whole" }
  | { readonly _tag: "Part"; readonly part: Part }

export const messageFor = (delta: Delta, receiver: Receiver): Rendering => tellers[receiver.level](delta, receiver)

/** Whether all receivers of this level are told the same of it, so that it is encoded once. */
export const isShared = (delta: Delta, level: Level): boolean =>
  delta._tag === "Tunnel" || delta._tag === "Certificate" || delta._tag === "Rescoped" ||
  level === "plain" && (delta._tag === "Agent" || delta._tag === "Gateway")

/** A part as the text of a frame; in `control.v1` it names its place: its revision, and the one that was told before it. */
export const encodePart: Record<Level, (part: Part, revision: Revision, previous: Revision) => string> = {
  plain: (part) => JSON.stringify(part),
  "control.v1": ({ data, type }, revision, previous) => JSON.stringify({ type, revision, previous, data })
}

/** Whether a frame of this level says what was told before it. */
export const namesPrevious: Record<Level, boolean> = { plain: false, "control.v1": true }

const nothing: Rendering = { _tag: "Nothing" }
const whole: Rendering = { _tag: "Whole" }
const part = (type: string, data: object): Rendering => ({ _tag: "Part", part: { type, data } })

type Teller = (delta: Delta, receiver: Receiver) => Rendering

/** The plain level has messages for tunnels only. */
const tellPlain: Teller = (delta, { ref }) => {
  switch (delta._tag) {
    case "Tunnel":
      return part(delta.message.type, delta.message.data)
    case "Agent":
      return differs(delta, agentForGateways) ? whole : nothing
    case "Gateway":
      return differs(delta, seenAtPlainLevel) ? whole : nothing
    case "Certificate":
    case "Rescoped":
      return whole
    case "Own": {
      const changed = delta.client === "agent" ? differs(delta, ownAgent) : differs(delta, ownAndScope)
      return delta.after.id === ref.id && changed ? whole : nothing
    }
  }
}

const tellV1: Teller = (delta, { ref, slot, subnet }) => {
  switch (delta._tag) {
    case "Tunnel":
      return part(delta.message.type, delta.message.data)
    case "Agent": {
      if (delta.uproots) return whole
      if (!differs(delta, agentForGateways)) return nothing
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
      return whole
    case "Own": {
      const changed = delta.client === "agent" ? differs(delta, ownAgentV1) : differs(delta, seenByItself)
      return delta.after.id === ref.id && changed ? whole : nothing
    }
  }
}

const tellers: Record<Level, Teller> = { plain: tellPlain, "control.v1": tellV1 }

function changed<Row>(
  noun: string,
  { after, before }: { readonly before: Row | undefined; readonly after: Row | undefined },
  seen: (row: Row) => object,
  named: (row: Row) => object
): Rendering {
  if (after === undefined) return before === undefined ? nothing : part(`${noun}_delete`, named(before))
  if (before === undefined) return part(`${noun}_create`, seen(after))
  const data = seen(after)
  return Equal.equals(seen(before), data) ? nothing : part(`${noun}_update`, data)
}

function differs<Row>(
  { after, before }: { readonly before: Row | undefined; readonly after: Row | undefined },
  seen: (row: Row) => object
): boolean {
  if (before === undefined || after === undefined) return before !== after
  return !Equal.equals(seen(before), seen(after))
}

/** The port is not part of the plain level. */
function seenAtPlainLevel({ id, name, publicIp, slot, wireguardPublicKey }: Gateway) {
  return { id, name, publicIp, slot, wireguardPublicKey }
}

/** Its scope decides what else it sees. */
function ownAndScope(gateway: Gateway) {
  return { ...ownGateway(gateway), serves: gateway.serves }
}

/** Its slot decides its address inside every agent's subnet. */
function seenByItself(gateway: Gateway) {
  return { ...ownGatewayV1(gateway), slot: gateway.slot, serves: gateway.serves }
}
