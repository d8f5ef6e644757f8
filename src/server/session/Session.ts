/** One connection's conversation as a pure state machine: an event and the session give the actions and the next session. */
import type { Resume } from "#schema/clientMessages.ts"
import type { CloseReason, ErrorCode } from "#schema/codes.ts"
import type { AuthError } from "#schema/controlMessages.ts"
import type { ClientRef, ClientType } from "#schema/ids.ts"
import type { ClientMessage, FrameError, Level } from "#schema/protocol.ts"
import type { Rate } from "#rateLimit/TokenBucket.ts"
import { Result } from "effect"
import type { Action, Event } from "./Action.ts"
import { levels } from "./replies.ts"
import { fault, mayResync, resyncEverySeconds, take, unused, type Usage } from "./messageLimits.ts"

/** `connected`: upgraded. `authenticating`: a key is being looked up. `ready`: who it is, is known. `closed`: nothing counts any more. */
export type State =
  | { readonly _tag: "connected" }
  | { readonly _tag: "authenticating"; readonly resume?: Resume }
  | { readonly _tag: "ready"; readonly client: ClientRef }
  | { readonly _tag: "closed" }

export interface Session {
  readonly state: State
  readonly level: Level
  /** Of its messages. */
  readonly limit: Rate
  readonly usage: Usage
}

export type Transition = readonly [actions: ReadonlyArray<Action>, next: Session]

export const initial = (limit: Rate, at: number, level: Level = "plain"): Session => ({
  state: { _tag: "connected" },
  level,
  limit,
  usage: unused(limit, at)
})

/** Defined for every state and every event; an event that a state does not expect changes nothing. */
export const handle = (session: Session, event: Event): Transition => {
  if (session.state._tag === "closed") return [[], session]
  switch (event._tag) {
    case "Received":
      return receive(session, event.frame, event.at)
    case "ReceivedTooBig":
      return close(session, "tooBig")
    case "ReceivedBinary":
      return close(session, "protocolViolation")
    case "Stored":
      return [session.state._tag === "ready" ? levels[session.level].stored(event.domain) : [], session]
    case "NotStored":
    case "NotNoted":
      return session.state._tag === "ready" ? [[error(event.code, event.reason)], session] : [[], session]
    case "Authenticated":
    case "Refused":
    case "Unavailable":
    case "TooOften":
    case "Deleted":
    case "KeyRejected":
      return session.state._tag === "authenticating" ? concludeAuth(session, event) : [[], session]
  }
}

/** The type of client that may be heard in this state: known once authenticated. */
export const senderOf = (session: Session): ClientType | undefined =>
  session.state._tag === "ready" ? session.state.client.type : undefined

function concludeAuth(
  session: Session,
  event: Extract<Event, { _tag: "Authenticated" | "Refused" | "Unavailable" | "TooOften" | "Deleted" | "KeyRejected" }>
): Transition {
  switch (event._tag) {
    case "Authenticated": {
      const { client } = event
      const resume = session.state._tag === "authenticating" ? session.state.resume : undefined
      return [levels[session.level].admitted(client, resume), { ...session, state: { _tag: "ready", client } }]
    }
    case "Refused":
      return close(session, "unauthenticated", authError("Invalid API key"))
    case "Unavailable":
      return close(session, "tryLater", authError("Internal server error"))
    case "TooOften":
      return close(session, "tooMany", authError("Internal server error"))
    case "Deleted":
      return close(session, "deleted", authError("Invalid API key"))
    case "KeyRejected":
      return close(session, "protocolViolation", error("wireguard_key_rejected", event.reason))
  }
}

function receive(session: Session, frame: Result.Result<ClientMessage, FrameError>, at: number): Transition {
  const [verdict, usage] = take(session.usage, session.limit, at)
  const next = { ...session, usage }
  if (verdict === "stop") return close(next, "tooMany")
  if (verdict === "drop") {
    // One answer until it has slowed down: a flood must not be answered by a flood.
    const answer = usage.dropped === 1 ? [error("rate_limited", rateText(session.limit))] : []
    return [answer, next]
  }
  if (next.state._tag === "connected") return receiveConnected(next, frame, at)
  // Nothing is read while a key is looked up, so that the message after `auth` finds the session ready.
  if (next.state._tag !== "ready") return [[], next]
  if (Result.isFailure(frame)) return refuse(next, frame.failure, at)
  return receiveReady(next, next.state.client, frame.success, at)
}

function receiveConnected(session: Session, frame: Result.Result<ClientMessage, FrameError>, at: number): Transition {
  if (Result.isSuccess(frame) && frame.success.type === "auth") return authenticate(session, frame.success.data)
  const isBadFrame = Result.isFailure(frame) &&
    (frame.failure.code === "malformed_json" || frame.failure.code === "invalid_message")
  return refuse(session, isBadFrame ? frame.failure : unauthenticated, at)
}

function authenticate(session: Session, data: Extract<ClientMessage, { type: "auth" }>["data"]): Transition {
  const { apiKey } = data
  const publicIp = "publicIp" in data && data.publicIp ? data.publicIp : null
  const own = "wireguardPublicKey" in data ? { wireguardPublicKey: data.wireguardPublicKey } : {}
  const version = "clientVersion" in data ? { clientVersion: data.clientVersion } : {}
  const resume = "resume" in data ? { resume: data.resume } : {}
  return [[{ _tag: "Authenticate", apiKey, publicIp, ...own, ...version }], {
    ...session,
    state: { _tag: "authenticating", ...resume }
  }]
}

function receiveReady(session: Session, client: ClientRef, message: ClientMessage, at: number): Transition {
  switch (message.type) {
    case "auth":
      return refuse(session, { code: "already_authenticated", message: "this connection is already authenticated" }, at)
    case "heartbeat":
      return [levels[session.level].heard(message.data.timestamp), session]
    case "status":
      if (client.type !== "agent") return refuse(session, notAllowed(message.type, client.type), at)
      return [[touch, { _tag: "Report", agent: client.id, tunnels: message.data.tunnels }], session]
    case "certificate_obtained":
      if (client.type !== "gateway") return refuse(session, notAllowed(message.type, client.type), at)
      return [[touch, { _tag: "StoreCertificate", gateway: client.id, certificate: message.data }], session]
    case "ack":
      return [[touch, { _tag: "Acknowledge", revision: message.data.revision }], session]
    case "nack":
      return [[touch, { _tag: "Refuse", nack: message.data }], session]
    case "resync":
      return resync(session, at)
  }
}

/** A config costs more than any other answer: a client that asks for it in a loop gets it now and then. */
function resync(session: Session, at: number): Transition {
  const [allowed, usage] = mayResync(session.usage, at)
  const action: Action = allowed
    ? { _tag: "Resync" }
    : error("rate_limited", `a config is sent once every ${resyncEverySeconds} seconds at most`)
  return [[touch, action], { ...session, usage }]
}

const touch: Action = { _tag: "Touch" }

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

function rateText({ burst, perSecond }: Rate): string {
  return `more than ${perSecond} messages a second (bursts of ${burst} are let through); messages are dropped`
}
