/** Answers in which the protocol levels differ; `schema/allowedMessages.ts` has the messages, `views/messages.ts` the deltas. Pure. */
import type { Resume } from "#schema/messagesFromClients.ts"
import type { ControlMessageV1 } from "#schema/messagesFromControlV1.ts"
import type { ClientRef } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import type { Action } from "./Action.ts"

interface Replies {
  /** The client has authenticated; `resume` is the position that it had reached. */
  authenticated(client: ClientRef, resume: Resume | undefined): ReadonlyArray<Action>
  /** A heartbeat arrived; `timestamp` is its client's clock. */
  heartbeat(timestamp: number): ReadonlyArray<Action>
  /** The certificate that the gateway sent for this domain is stored. */
  certificateStored(domain: string): ReadonlyArray<Action>
  /** The client begins too many sessions, and should connect again after this many milliseconds. */
  tooManySessions(retryAfterMs: number): Action
  /** The server is stopping, and the client should reconnect after this many milliseconds. */
  draining(reconnectAfterMs: number): ControlMessageV1 | undefined
}

const activity: ReadonlyArray<Action> = [{ _tag: "RecordActivity" }]

const plain: Replies = {
  authenticated: (client) => [
    { _tag: "Send", message: { type: "auth_success", data: { ...idField(client), message: authSuccessText } } },
    { _tag: "StartView" }
  ],
  heartbeat: () => activity,
  // The config that follows contains the certificate.
  certificateStored: () => [],
  tooManySessions: () => ({ _tag: "Send", message: { type: "auth_error", data: { message: "Too many sessions" } } }),
  draining: () => undefined
}

export const replies: Record<Level, Replies> = {
  plain,
  "control.v1": {
    authenticated: (_, resume) => [{ _tag: "ResumeView", resume }],
    heartbeat: (timestamp) => [...activity, { _tag: "AnswerHeartbeat", timestamp }],
    certificateStored: (domain) => [{ _tag: "Send", message: { type: "certificate_accepted", data: { domain } } }],
    tooManySessions: (retryAfterMs) => ({
      _tag: "Send",
      message: { type: "auth_error", data: { message: "Too many sessions", code: "rate_limited", retryAfterMs } }
    }),
    draining: (reconnectAfterMs) => ({ type: "drain", data: { reconnectAfterMs } })
  }
}

export const authSuccessText = "Authentication successful"

/** The field of `auth_success` that names the client. */
export const idField = (client: ClientRef) =>
  client.type === "agent" ? { agentId: client.id } : { gatewayId: client.id }
