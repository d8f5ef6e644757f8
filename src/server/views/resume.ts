/** What a client that comes back has missed: the rows that were touched since, as they are now. Pure. */
import type { Resume } from "#schema/clientMessages.ts"
import type { ClientRef } from "#schema/ids.ts"
import { HashMap, Option } from "effect"
import { gatewayAddresses } from "#network/addresses.ts"
import * as History from "#network/History.ts"
import { areConnected, limitedIn, seesCertificate } from "#network/scope.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import * as Table from "#network/BucketMap.ts"
import type { Part, Placed, Receiver } from "./messages.ts"
import {
  agentForGatewayV1,
  certificateForGateways,
  gatewayForAgentV1,
  tunnelForAgent,
  tunnelForGateways
} from "./view.ts"

/**
 * `timeline`: its place is in another history. `ahead`: it has seen what this history does not have. `compacted`: what it
 * missed is partly forgotten. `own`: its own part has changed, or addresses have, or, where gateways are limited, what is in
 * its view may have. `cheaper`: the config is shorter than what it missed.
 */
export type NotResumed = "timeline" | "ahead" | "compacted" | "own" | "cheaper"

export type Resumption =
  | { readonly _tag: "Resumed"; readonly missed: ReadonlyArray<Placed> }
  | { readonly _tag: "NotResumed"; readonly why: NotResumed }

/** In order of revision, each row once, as it is now. Never an error: the worst case is a config. */
export const resume = (state: NetworkState, receiver: Receiver, from: Resume): Resumption => {
  if (from.timeline !== state.timeline) return not("timeline")
  if (from.revision > state.revision) return not("ahead")
  const touches = History.since(state.history, from.revision, receiver.ref)
  if (touches === undefined) return not("compacted")
  const missed: Array<Placed> = []
  for (const touch of touches) {
    if (touch.entity === receiver.ref.type && touch.id === receiver.ref.id && touch.own) return not("own")
    if (touch.renumbered && receiver.ref.type === "gateway") return not("own")
    if (mayHaveRescoped(state, receiver.ref, touch)) return not("own")
    const part = receiver.ref.type === "agent"
      ? partForAgent(state, receiver.ref, receiver, touch)
      : partForGateway(state, receiver, touch)
    if (part !== undefined) missed.push({ revision: touch.revision, part })
  }
  return { _tag: "Resumed", missed }
}

/**
 * Where gateways are limited, a tunnel decides what else is seen, and whether a limited gateway is seen was decided by what
 * it was limited to: neither is known of the past, so the view is told whole. For a limited gateway that goes for any tunnel.
 */
function mayHaveRescoped(state: NetworkState, client: ClientRef, touch: History.Touch): boolean {
  if (state.limits === undefined) return false
  if (client.type === "gateway") return touch.entity === "tunnel" && limitedIn(state, client.id) !== undefined
  if (touch.entity === "tunnel") return true
  const gateway = touch.entity === "gateway" ? limitedIn(state, touch.id) : undefined
  return gateway !== undefined && touch.own && !areConnected(state, gateway, client.id)
}

function not(why: NotResumed): Resumption {
  return { _tag: "NotResumed", why }
}

function partForAgent(
  state: NetworkState,
  { id: agentId }: Extract<ClientRef, { type: "agent" }>,
  { subnet }: Receiver,
  touch: History.Touch
): Part | undefined {
  const { id } = touch
  switch (touch.entity) {
    case "gateway": {
      const gateway = find(HashMap.get(state.gateways, touch.id))
      if (gateway === undefined) return { type: "gateway_delete", data: { id } }
      if (!areConnected(state, gateway, agentId)) return undefined
      return { type: "gateway_update", data: gatewayForAgentV1(gateway, gatewayAddresses(subnet)) }
    }
    case "tunnel": {
      const tunnel = find(Table.get(state.tunnels, touch.id))
      if (tunnel?.agentId !== agentId) return { type: "tunnel_delete", data: { id } }
      return { type: "tunnel_update", data: tunnelForAgent(tunnel) }
    }
    case "agent":
    case "certificate":
      return undefined
  }
}

function partForGateway(state: NetworkState, { ref, slot }: Receiver, touch: History.Touch): Part | undefined {
  const { id } = touch
  const limited = ref.type === "gateway" ? limitedIn(state, ref.id) : undefined
  switch (touch.entity) {
    case "agent": {
      if (limited !== undefined && !areConnected(state, limited, touch.id)) return undefined
      const agent = find(Table.get(state.agents, touch.id))
      if (agent === undefined) return { type: "agent_delete", data: { id } }
      return { type: "agent_update", data: agentForGatewayV1(agent, slot) }
    }
    case "tunnel": {
      const tunnel = find(Table.get(state.tunnels, touch.id))
      const virtualIp = tunnel && find(HashMap.get(state.virtualIps, tunnel.agentId))
      if (tunnel === undefined || virtualIp === undefined) return { type: "tunnel_delete", data: { id } }
      return { type: "tunnel_update", data: tunnelForGateways(tunnel, virtualIp) }
    }
    case "certificate": {
      if (limited !== undefined && !seesCertificate(state, limited, id)) return undefined
      const certificate = find(Table.get(state.certificates, touch.id))
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
