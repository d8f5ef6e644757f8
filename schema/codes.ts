/** Close codes and error codes with their meaning and the client's reaction. */
import { Schema } from "effect"

interface CloseCode {
  readonly code: number
  readonly meaning: string
  readonly clientAction: string
}

/** RFC 6455 section 7.4 defines the codes below 4000 and leaves 4000 to 4999 to applications. `meaning` is the close reason. */
export const closeCodes = {
  normal: { code: 1000, meaning: "normal", clientAction: "-" },
  tooBig: { code: 1009, meaning: "message larger than the limit", clientAction: "not resend it" },
  defect: { code: 1011, meaning: "internal server error", clientAction: "reconnect with backoff" },
  restarting: { code: 1012, meaning: "restarting", clientAction: "reconnect after a random delay" },
  tryLater: { code: 1013, meaning: "try again later (store unavailable)", clientAction: "reconnect with backoff" },
  protocolViolation: {
    code: 4400,
    meaning: "protocol violation (binary frame, too many bad messages)",
    clientAction: "stop and report"
  },
  unauthenticated: {
    code: 4401,
    meaning: "authentication failed",
    clientAction: "stop until it has another key, or retry every few minutes"
  },
  revoked: { code: 4403, meaning: "the key was revoked", clientAction: "stop until it has another key" },
  silent: { code: 4408, meaning: "silent too long, or no `auth` in time", clientAction: "reconnect" },
  replaced: {
    code: 4409,
    meaning: "replaced by a newer session of the same client",
    clientAction: "stop; reconnecting would replace the newer session"
  },
  deleted: { code: 4410, meaning: "this agent or gateway was deleted", clientAction: "stop" },
  tooMany: {
    code: 4429,
    meaning: "too many messages, or too many sessions of one client",
    clientAction: "reconnect after a minute"
  },
  tooSlow: {
    code: 4441,
    meaning: "too slow: did not read for too long",
    clientAction: "reconnect with backoff; expect a full `config`"
  }
} as const satisfies Record<string, CloseCode>
export type CloseReason = keyof typeof closeCodes

/** The codes of `error{code, message}`; they stay the same between versions. */
export const errorCodes = {
  malformed_json: "The frame is not JSON.",
  invalid_message: "The message has the wrong shape. The text names the path and the expected value.",
  unknown_type: "No message has this type. The message is ignored.",
  unauthenticated: "Only `auth` is accepted on a connection that has not authenticated.",
  already_authenticated: "A second `auth` on the same connection. The first one stays valid.",
  not_allowed: "This type of client cannot send this message.",
  wireguard_key_rejected:
    "In `control.v1`: the `wireguardPublicKey` of `auth` belongs to another client or is not a usable key. The connection is closed (4400).",
  certificate_rejected: "The certificate was not stored. The text gives the reason.",
  ack_ahead: "In `control.v1`: the `ack` is above every revision sent on this connection. The `ack` is ignored.",
  nack_unknown:
    "In `control.v1`: the revision of the `nack` was not sent on this connection, or was already acknowledged.",
  rate_limited:
    "Too many messages, or too many of this type. This message was dropped. Continuing closes the connection (4429).",
  unavailable: "The database is unavailable and nothing was stored. Try again later."
} as const
export type ErrorCode = keyof typeof errorCodes

export const ErrorCode = Schema.Literals(Object.keys(errorCodes) as [ErrorCode, ...Array<ErrorCode>]).annotate({
  identifier: "ErrorCode",
  description: "Error code for programs; stays the same between versions."
})
