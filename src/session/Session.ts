/** One connection's conversation as a pure state machine: an event and the session give the actions and the next session. */
import type { TunnelReport } from "#schema/agent.ts"
import type { CloseReason, ErrorCode } from "#schema/codes.ts"
import type { AuthError, ControlMessage } from "#schema/control.ts"
import type { CertificateObtained } from "#schema/gateway.ts"
import type { AgentId, ClientRef, ClientType, GatewayId } from "#schema/ids.ts"
import type { ClientMessage, FrameError } from "#schema/protocol.ts"
import { Result } from "effect"
import { fault, type Limits, take, unused, type Usage } from "./limits.ts"

/** `connected`: upgraded. `authenticating`: a key is being looked up. `ready`: who it is, is known. `closed`: nothing counts any more. */
export type State =
  | { readonly _tag: "connected" }
  | { readonly _tag: "authenticating" }
  | { readonly _tag: "ready"; readonly client: ClientRef }
  | { readonly _tag: "closed" }

export interface Session {
  readonly state: State
  readonly limits: Limits
  readonly usage: Usage
}

export type Event =
  /** A text frame, decoded; `at` in milliseconds of one monotonic clock. */
  | { readonly _tag: "Received"; readonly frame: Result.Result<ClientMessage, FrameError>; readonly at: number }
  /** A binary frame, which no client has any reason to send. */
  | { readonly _tag: "ReceivedBinary" }
  /** What became of `Authenticate`. */
  | { readonly _tag: "Authenticated"; readonly client: ClientRef }
  | { readonly _tag: "Refused" }
  | { readonly _tag: "Unavailable" }
  | { readonly _tag: "Deleted" }
  /** What became of `StoreCertificate`, if it was not stored. */
  | { readonly _tag: "NotStored"; readonly code: ErrorCode; readonly reason: string }
  /** The socket is closed, or its close has begun. */
  | { readonly _tag: "Ended" }

export type Action =
  | { readonly _tag: "Authenticate"; readonly apiKey: string; readonly publicIp: string | null }
  | { readonly _tag: "Send"; readonly message: ControlMessage }
  /** Send the config and, from its revision on, every step. */
  | { readonly _tag: "Follow" }
  /** The client is alive. */
  | { readonly _tag: "Touch" }
  | { readonly _tag: "Report"; readonly agent: AgentId; readonly tunnels: ReadonlyArray<TunnelReport> }
  | {
    readonly _tag: "StoreCertificate"
    readonly gateway: GatewayId
    readonly certificate: typeof CertificateObtained.Type["data"]
  }
  | { readonly _tag: "Close"; readonly reason: CloseReason }

export type Transition = readonly [actions: ReadonlyArray<Action>, next: Session]

export const initial = (limits: Limits, at: number): Session => ({
  state: { _tag: "connected" },
  limits,
  usage: unused(limits, at)
})

/** Defined for every state and every event; an event that a state does not expect changes nothing. */
export const handle = (session: Session, event: Event): Transition => {
  if (session.state._tag === "closed") return [[], session]
  switch (event._tag) {
    case "Received":
      return receive(session, event.frame, event.at)
    case "ReceivedBinary":
      return close(session, "protocolViolation")
    case "NotStored":
      return session.state._tag === "ready" ? [[error(event.code, event.reason)], session] : [[], session]
    case "Ended":
      return [[], { ...session, state: { _tag: "closed" } }]
    case "Authenticated":
    case "Refused":
    case "Unavailable":
    case "Deleted":
      return session.state._tag === "authenticating" ? concludeAuth(session, event) : [[], session]
  }
}

/** The type of client that may be heard in this state: known once authenticated. */
export const senderOf = (session: Session): ClientType | undefined =>
  session.state._tag === "ready" ? session.state.client.type : undefined

function concludeAuth(
  session: Session,
  event: Extract<Event, { _tag: "Authenticated" | "Refused" | "Unavailable" | "Deleted" }>
): Transition {
  switch (event._tag) {
    case "Authenticated": {
      const { client } = event
      const id = client.type === "agent" ? { agentId: client.id } : { gatewayId: client.id }
      const success: ControlMessage = { type: "auth_success", data: { ...id, message: "Authentication successful" } }
      const actions: ReadonlyArray<Action> = [{ _tag: "Send", message: success }, { _tag: "Follow" }]
      return [actions, { ...session, state: { _tag: "ready", client } }]
    }
    case "Refused":
      return close(session, "unauthenticated", authError("Invalid API key"))
    case "Unavailable":
      return close(session, "tryLater", authError("Internal server error"))
    case "Deleted":
      return close(session, "deleted", authError("Invalid API key"))
  }
}

function receive(session: Session, frame: Result.Result<ClientMessage, FrameError>, at: number): Transition {
  const [verdict, usage] = take(session.usage, session.limits, at)
  const next = { ...session, usage }
  if (verdict === "stop") return close(next, "tooMany")
  if (verdict === "drop") {
    // One answer until it has slowed down: a flood must not be answered by a flood.
    const answer = usage.dropped === 1 ? [error("rate_limited", rateText(session.limits))] : []
    return [answer, next]
  }
  if (next.state._tag === "connected") return receiveConnected(next, frame, at)
  // Nothing is read while a key is looked up, so that the message after `auth` finds the session ready.
  if (next.state._tag !== "ready") return [[], next]
  if (Result.isFailure(frame)) return refuse(next, frame.failure, at)
  return receiveReady(next, next.state.client, frame.success, at)
}

function receiveConnected(session: Session, frame: Result.Result<ClientMessage, FrameError>, at: number): Transition {
  if (Result.isSuccess(frame) && frame.success.type === "auth") {
    const { data } = frame.success
    const publicIp = "publicIp" in data && data.publicIp ? data.publicIp : null
    return [[{ _tag: "Authenticate", apiKey: data.apiKey, publicIp }], {
      ...session,
      state: { _tag: "authenticating" }
    }]
  }
  const isBadFrame = Result.isFailure(frame) &&
    (frame.failure.code === "malformed_json" || frame.failure.code === "invalid_message")
  return refuse(session, isBadFrame ? frame.failure : unauthenticated, at)
}

function receiveReady(session: Session, client: ClientRef, message: ClientMessage, at: number): Transition {
  switch (message.type) {
    case "auth":
      return refuse(session, { code: "already_authenticated", message: "this connection is already authenticated" }, at)
    case "heartbeat":
      return [touched, session]
    case "status":
      if (client.type !== "agent") return refuse(session, notAllowed(message.type, client.type), at)
      return [[touch, { _tag: "Report", agent: client.id, tunnels: message.data.tunnels }], session]
    case "certificate_obtained":
      if (client.type !== "gateway") return refuse(session, notAllowed(message.type, client.type), at)
      return [[touch, { _tag: "StoreCertificate", gateway: client.id, certificate: message.data }], session]
  }
}

const touch: Action = { _tag: "Touch" }
const touched: ReadonlyArray<Action> = [touch]

/** A message of a type that this version does not know is no fault: the client may be newer. */
function refuse(session: Session, { code, message }: FrameError, at: number): Transition {
  const answer = error(code, message)
  if (code === "unknown_type") return [[answer], session]
  const [tooMany, usage] = fault(session.usage, at)
  const next = { ...session, usage }
  return tooMany ? close(next, "protocolViolation", answer) : [[answer], next]
}

function close(session: Session, reason: CloseReason, ...before: ReadonlyArray<Action>): Transition {
  return [[...before, { _tag: "Close", reason }], { ...session, state: { _tag: "closed" } }]
}

function error(code: ErrorCode, message: string): Action {
  return { _tag: "Send", message: { type: "error", data: { code, message } } }
}

function authError(message: typeof AuthError.Type["data"]["message"]): Action {
  return { _tag: "Send", message: { type: "auth_error", data: { message } } }
}

const unauthenticated: FrameError = { code: "unauthenticated", message: "send auth first" }

function notAllowed(type: string, sender: ClientType): FrameError {
  return { code: "not_allowed", message: `${type} is not a message of ${sender}s` }
}

function rateText({ messagesPerSecond, burst }: Limits): string {
  return `more than ${messagesPerSecond} messages a second (bursts of ${burst} are let through); messages are dropped`
}
