/** Protocol state machine of one connection. An event leads to actions and the next session. Pure. */
import { isAcceptedIn, type SessionState } from "#schema/allowedMessages.ts"
import type { Resume } from "#schema/messagesFromClients.ts"
import type { CloseReason, ErrorCode } from "#schema/codes.ts"
import type { AuthError } from "#schema/messagesFromControl.ts"
import type { ClientRef, ClientType } from "#schema/ids.ts"
import type { ClientMessage, FrameError, Level } from "#schema/protocol.ts"
import type { Rate } from "#rateLimit/TokenBucket.ts"
import { Result } from "effect"
import type { Action, AuthResult, Event } from "./Action.ts"
import { replies } from "./replies.ts"
import {
  countFault,
  countMessage,
  initialUsage,
  resyncIntervalSeconds,
  tryResync,
  type Usage
} from "./messageLimits.ts"

/** Session states with their data; `schema/allowedMessages.ts` describes the states. */
export type State =
  & { readonly _tag: SessionState }
  & (
    | { readonly _tag: "connected" }
    | { readonly _tag: "authenticating"; readonly resume?: Resume }
    | { readonly _tag: "ready"; readonly client: ClientRef }
    | { readonly _tag: "closed" }
  )

export interface Session {
  readonly state: State
  readonly level: Level
  /** Limit of client messages. */
  readonly limit: Rate
  readonly usage: Usage
}

export type Transition = readonly [actions: ReadonlyArray<Action>, next: Session]

export const initial = (limit: Rate, at: number, level: Level = "plain"): Session => ({
  state: { _tag: "connected" },
  level,
  limit,
  usage: initialUsage(limit, at)
})

/** Handles every event in every state; an event that the state does not expect has no effect. */
export const handle = (session: Session, event: Event): Transition => {
  if (session.state._tag === "closed") return [[], session]
  switch (event._tag) {
    case "Received":
      return receive(session, event.frame, event.at)
    case "ReceivedTooBig":
      return close(session, "tooBig")
    case "ReceivedBinary":
      return close(session, "protocolViolation")
    case "CertificateStored":
      return [session.state._tag === "ready" ? replies[session.level].certificateStored(event.domain) : [], session]
    case "CertificateNotStored":
    case "NotRecorded":
      return session.state._tag === "ready" ? [[error(event.code, event.reason)], session] : [[], session]
    case "Authenticated":
    case "InvalidKey":
    case "StoreUnavailable":
    case "TooManySessions":
    case "ClientGone":
    case "WireguardKeyRejected":
      return session.state._tag === "authenticating" ? finishAuth(session, event) : [[], session]
  }
}

/** The type of the client, by which its frames are decoded; undefined before it has authenticated. */
export const senderOf = (session: Session): ClientType | undefined =>
  session.state._tag === "ready" ? session.state.client.type : undefined

function finishAuth(session: Session, event: AuthResult): Transition {
  switch (event._tag) {
    case "Authenticated": {
      const { client } = event
      const resume = session.state._tag === "authenticating" ? session.state.resume : undefined
      return [replies[session.level].authenticated(client, resume), { ...session, state: { _tag: "ready", client } }]
    }
    case "InvalidKey":
      return close(session, "unauthenticated", authError("Invalid API key"))
    case "StoreUnavailable":
      return close(session, "tryLater", authError("Internal server error"))
    case "TooManySessions":
      return close(session, "tooMany", replies[session.level].tooManySessions(event.retryAfterMs))
    case "ClientGone":
      return close(session, "deleted", authError("Invalid API key"))
    case "WireguardKeyRejected":
      return close(session, "protocolViolation", error("wireguard_key_rejected", event.reason))
  }
}

function receive(session: Session, frame: Result.Result<ClientMessage, FrameError>, at: number): Transition {
  const [verdict, usage] = countMessage(session.usage, session.limit, at)
  const next = { ...session, usage }
  if (verdict === "close") return close(next, "tooMany", { _tag: "RecordFlood" }, error("rate_limited", floodText))
  if (verdict === "drop") {
    // One answer until the client slows down, because a flood must not be answered with a flood.
    const answer = usage.dropped === 1 ? [error("rate_limited", rateText(session.limit))] : []
    return [answer, next]
  }
  if (next.state._tag === "connected") return receiveConnected(next, frame, at)
  // The connection reads no frame while the key is looked up, so the message after `auth` finds the session ready.
  if (next.state._tag !== "ready") return [[], next]
  if (Result.isFailure(frame)) return reject(next, frame.failure, at)
  return receiveReady(next, next.state.client, frame.success, at)
}

function receiveConnected(session: Session, frame: Result.Result<ClientMessage, FrameError>, at: number): Transition {
  if (Result.isSuccess(frame) && isAcceptedIn("connected", frame.success)) {
    return authenticate(session, frame.success.data)
  }
  // An `auth` whose key cannot be a key is answered as one with an unknown key.
  if (Result.isFailure(frame) && frame.failure.isInvalidKey === true) return authenticate(session, { apiKey: "" })
  const isBadFrame = Result.isFailure(frame) &&
    (frame.failure.code === "malformed_json" || frame.failure.code === "invalid_message")
  return reject(session, isBadFrame ? frame.failure : unauthenticated, at)
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
  if (!isAcceptedIn("ready", message)) return reject(session, alreadyAuthenticated, at)
  switch (message.type) {
    case "heartbeat":
      return [replies[session.level].heartbeat(message.data.timestamp), session]
    case "status":
      return [[recordActivity, { _tag: "RecordStatus", status: message.data }], session]
    case "certificate_obtained":
      if (client.type !== "gateway") return reject(session, notAllowed(message.type, client.type), at)
      return [[recordActivity, { _tag: "StoreCertificate", gateway: client.id, certificate: message.data }], session]
    case "ack":
      return [[recordActivity, { _tag: "Acknowledge", revision: message.data.revision }], session]
    case "nack":
      return [[recordActivity, { _tag: "Reject", nack: message.data }], session]
    case "resync":
      return resync(session, at)
  }
}

/** Limits configs to one every `resyncIntervalSeconds`, because a config costs more than any other answer. */
function resync(session: Session, at: number): Transition {
  const [allowed, usage] = tryResync(session.usage, at)
  const action: Action = allowed
    ? { _tag: "Resync" }
    : error("rate_limited", `a config is sent once every ${resyncIntervalSeconds} seconds at most`)
  return [[recordActivity, action], { ...session, usage }]
}

const recordActivity: Action = { _tag: "RecordActivity" }

/** Answers with an error and counts a fault. An unknown type is no fault, because the client may be newer than this server. */
function reject(session: Session, { code, message }: FrameError, at: number): Transition {
  const answer = error(code, message)
  if (code === "unknown_type") return [[answer], session]
  const [tooMany, usage] = countFault(session.usage, at)
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

const alreadyAuthenticated: FrameError = {
  code: "already_authenticated",
  message: "this connection is already authenticated"
}

function notAllowed(type: string, sender: ClientType): FrameError {
  return { code: "not_allowed", message: `${type} is not a message of ${sender}s` }
}

const floodText = "the messages did not slow down; the connection is closed, reconnect after a minute"

function rateText({ burst, perSecond }: Rate): string {
  return `more than ${perSecond} messages a second (bursts of ${burst} are let through); messages are dropped`
}
