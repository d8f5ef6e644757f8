/** Computes the messages that a client missed since its position. Pure. */
import type { Resume } from "#schema/messagesFromClients.ts"
import type { ClientRef } from "#schema/ids.ts"
import { HashMap, Option } from "effect"
import { gatewayAddresses } from "#network/addresses.ts"
import * as History from "#network/History.ts"
import { areConnected, scopedGateway, seesCertificate } from "#network/scope.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import * as BucketMap from "#network/BucketMap.ts"
import type { MessageAtRevision, Receiver, ViewMessage } from "./deltaMessages.ts"
import {
  agentForGatewayV1,
  certificateForGateways,
  gatewayForAgentV1,
  tunnelForAgentV1,
  tunnelForGatewaysV1
} from "./view.ts"

/**
 * Why a client gets a config instead. `timeline`: its position is in another history. `ahead`: its revision is newer than the
 * state. `compacted`: some changes since its position were dropped. `own`: its own part changed, or addresses changed, or a scope
 * may have changed its view. `cheaper`: the config is shorter than the missed messages.
 */
export type NotResumedReason = "timeline" | "ahead" | "compacted" | "own" | "cheaper"

export type Resumption =
  | { readonly _tag: "Resumed"; readonly messages: ReadonlyArray<MessageAtRevision> }
  | { readonly _tag: "NotResumed"; readonly reason: NotResumedReason }

/** The missed messages in order of revision, each row once, as it is now. Never fails; the worst case is a config. */
export const resume = (state: NetworkState, receiver: Receiver, position: Resume): Resumption => {
  if (position.timeline !== state.timeline) return notResumed("timeline")
  if (position.revision > state.revision) return notResumed("ahead")
  const entries = History.entriesSince(state.history, position.revision, receiver.ref)
  if (entries === undefined) return notResumed("compacted")
  const messages: Array<MessageAtRevision> = []
  for (const entry of entries) {
    if (entry.entity === receiver.ref.type && entry.id === receiver.ref.id && entry.own) return notResumed("own")
    if (entry.renumbered && receiver.ref.type === "gateway") return notResumed("own")
    if (mayHaveRescoped(state, receiver.ref, entry)) return notResumed("own")
    const message = receiver.ref.type === "agent"
      ? messageForAgent(state, receiver.ref, receiver, entry)
      : messageForGateway(state, receiver, entry)
    if (message !== undefined) messages.push({ revision: entry.revision, message })
  }
  return { _tag: "Resumed", messages }
}

/**
 * Whether the change may have moved other rows into the client's view or out of it. With scopes, a tunnel decides which other
 * rows are visible, and a scope decides which agents see its gateway. The history has neither, so the client needs a config.
 * For a scoped gateway this applies to every tunnel.
 */
function mayHaveRescoped(state: NetworkState, client: ClientRef, entry: History.Entry): boolean {
  if (state.scopeIndex === undefined) return false
  if (client.type === "gateway") return entry.entity === "tunnel" && scopedGateway(state, client.id) !== undefined
  if (entry.entity === "tunnel") return true
  const gateway = entry.entity === "gateway" ? scopedGateway(state, entry.id) : undefined
  return gateway !== undefined && entry.own && !areConnected(state, gateway, client.id)
}

function notResumed(reason: NotResumedReason): Resumption {
  return { _tag: "NotResumed", reason }
}

function messageForAgent(
  state: NetworkState,
  { id: agentId }: Extract<ClientRef, { type: "agent" }>,
  { subnet }: Receiver,
  entry: History.Entry
): ViewMessage | undefined {
  const { id } = entry
  switch (entry.entity) {
    case "gateway": {
      const gateway = find(HashMap.get(state.gateways, entry.id))
      if (gateway === undefined) return { type: "gateway_delete", data: { id } }
      if (!areConnected(state, gateway, agentId)) return undefined
      return { type: "gateway_update", data: gatewayForAgentV1(gateway, gatewayAddresses(subnet)) }
    }
    case "tunnel": {
      const tunnel = find(BucketMap.get(state.tunnels, entry.id))
      if (tunnel?.agentId !== agentId) return { type: "tunnel_delete", data: { id } }
      return { type: "tunnel_update", data: tunnelForAgentV1(tunnel) }
    }
    case "agent":
    case "certificate":
      return undefined
  }
}

function messageForGateway(
  state: NetworkState,
  { ref, slot }: Receiver,
  entry: History.Entry
): ViewMessage | undefined {
  const { id } = entry
  const scoped = ref.type === "gateway" ? scopedGateway(state, ref.id) : undefined
  switch (entry.entity) {
    case "agent": {
      if (scoped !== undefined && !areConnected(state, scoped, entry.id)) return undefined
      const agent = find(BucketMap.get(state.agents, entry.id))
      if (agent === undefined) return { type: "agent_delete", data: { id } }
      return { type: "agent_update", data: agentForGatewayV1(agent, slot) }
    }
    case "tunnel": {
      const tunnel = find(BucketMap.get(state.tunnels, entry.id))
      const virtualIp = tunnel && find(HashMap.get(state.virtualIps, tunnel.agentId))
      if (tunnel === undefined || virtualIp === undefined) return { type: "tunnel_delete", data: { id } }
      return { type: "tunnel_update", data: tunnelForGatewaysV1(tunnel, virtualIp) }
    }
    case "certificate": {
      if (scoped !== undefined && !seesCertificate(state, scoped, id)) return undefined
      const certificate = find(BucketMap.get(state.certificates, entry.id))
      if (certificate === undefined) return { type: "certificate_delete", data: { domain: id } }
      return { type: "certificate_update", data: certificateForGateways(certificate) }
    }
    case "gateway":
      return undefined
  }
}

function find<Row>(row: Option.Option<Row>): Row | undefined {
  return Option.getOrUndefined(row)
}
