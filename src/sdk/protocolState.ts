/** Protocol state of one connection on the client's side: a message yields actions and the next state. Pure. */
import type { Ack, Nack, Resync } from "#schema/messagesFromClients.ts"
import { Revision } from "#schema/ids.ts"
import type { AuthSuccess, Message } from "./messages.ts"
import { applyDelta, type Change, ownerId, type Snapshot, snapshotOf } from "./view.ts"

export interface ProtocolState {
  /** Undefined before authentication. */
  readonly authSuccess: AuthSuccess | undefined
  /** The newest snapshot received; undefined while the client waits for a config. */
  readonly snapshot: Snapshot | undefined
  /** Time of the last `resync` since the last config, in milliseconds of a monotonic clock. */
  readonly resyncRequestedAt: number | undefined
}

export type OutgoingMessage = typeof Ack.Type | typeof Nack.Type | typeof Resync.Type

export type Action =
  /** Authenticated. `ownsSnapshot`: the snapshot from before this connection belongs to this client. */
  | { readonly _tag: "Ready"; readonly authSuccess: AuthSuccess; readonly ownsSnapshot: boolean }
  | { readonly _tag: "Apply"; readonly snapshot: Snapshot; readonly change: Change }
  | { readonly _tag: "Send"; readonly message: OutgoingMessage }
  /** The server closes the connection, and requests this delay before the next one. */
  | { readonly _tag: "RetryAfter"; readonly millis: number }
  | { readonly _tag: "CertificateAccepted"; readonly domain: string }
  | { readonly _tag: "Error"; readonly code: string; readonly message: string }

export type Transition = readonly [actions: ReadonlyArray<Action>, next: ProtocolState]

/** The state of a new connection. The client resumes from `snapshot` if there is one. */
export const initialState = (snapshot: Snapshot | undefined): ProtocolState => ({
  authSuccess: undefined,
  snapshot,
  resyncRequestedAt: undefined
})

/** Processes one message. `now`: milliseconds of a monotonic clock. */
export const receive = (state: ProtocolState, message: Message, now: number): Transition => {
  switch (message._tag) {
    case "AuthSuccess":
      // A second `auth_success` would start heartbeats and reports twice.
      if (state.authSuccess !== undefined) return [[], state]
      return authenticated(state, message.authSuccess, now)
    case "Config": {
      const snapshot = snapshotOf(message.config)
      const change: Change = { source: "config", revision: snapshot.revision, rows: [] }
      return [[{ _tag: "Apply", snapshot, change }], { ...state, snapshot, resyncRequestedAt: undefined }]
    }
    case "Delta": {
      const { snapshot } = state
      const outcome = snapshot === undefined ? gap : applyDelta(snapshot, message.delta)
      if (outcome._tag === "Duplicate") return [[], state]
      if (outcome._tag === "Gap") return requestResync(state, "a delta is missing", now)
      return [[{ ...outcome, _tag: "Apply" }], { ...state, snapshot: outcome.snapshot }]
    }
    case "HeartbeatAck": {
      const isBehind = state.snapshot === undefined || state.snapshot.revision < message.revision
      return isBehind ? requestResync(state, "behind the heartbeat_ack", now) : [[], state]
    }
    case "Drain":
      return [[{ _tag: "RetryAfter", millis: message.reconnectAfterMs }], state]
    case "AuthError":
      return [[
        { _tag: "Error", code: "auth_error", message: message.message },
        ...(message.retryAfterMs === undefined ? [] : [{ _tag: "RetryAfter" as const, millis: message.retryAfterMs }])
      ], state]
    case "CertificateAccepted":
    case "Error":
      return [[message], state]
    case "Unreadable":
      return [reportUnreadable(message), state]
    case "Unknown":
      return [[], state]
  }
}

/** Control answers one `resync` in 5 s. The client waits slightly longer, because the two clocks differ. */
const minResyncIntervalMillis = 5_500

const gap = { _tag: "Gap" } as const

/** Drops the snapshot unless Control resumes it for the client to which it belongs. A new key may belong to another client. */
function authenticated(before: ProtocolState, authSuccess: AuthSuccess, now: number): Transition {
  const { snapshot } = before
  const ownsSnapshot = snapshot !== undefined &&
    ownerId(snapshot.view) === (authSuccess.agentId ?? authSuccess.gatewayId)
  const isResumed = ownsSnapshot && authSuccess.resumed && snapshot.timeline === authSuccess.timeline
  const next: ProtocolState = { ...before, authSuccess, snapshot: isResumed ? snapshot : undefined }
  const ready: Action = { _tag: "Ready", authSuccess, ownsSnapshot }
  if (isResumed || !authSuccess.resumed) return [[ready], next]
  const [actions, requested] = requestResync(next, "resumed with the view of another client", now)
  return [[ready, ...actions], requested]
}

function requestResync(state: ProtocolState, reason: string, now: number): Transition {
  const { resyncRequestedAt } = state
  if (resyncRequestedAt !== undefined && now - resyncRequestedAt < minResyncIntervalMillis) return [[], state]
  return [[{ _tag: "Send", message: { type: "resync", data: { reason } } }], { ...state, resyncRequestedAt: now }]
}

/** Rejects an unreadable revision, so that operators see why the client does not apply it. */
function reportUnreadable({ reason, revision }: Extract<Message, { _tag: "Unreadable" }>): ReadonlyArray<Action> {
  const error: Action = { _tag: "Error", code: "unreadable", message: reason }
  if (revision === undefined) return [error]
  const data = { revision: Revision.make(revision), code: "unreadable", message: reason }
  return [error, { _tag: "Send", message: { type: "nack", data } }]
}
