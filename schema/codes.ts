/** Every close code and error code, once: what it means and what the client should do. */
import { Schema } from "effect"

interface CloseCodeEntry {
  readonly code: number
  readonly meaning: string
  readonly client: string
}

/** RFC 6455 section 7.4 gives the codes below 4000; 4000 to 4999 are ours to define. */
export const closeCodes = {
  normal: { code: 1000, meaning: "normal", client: "-" },
  tooBig: { code: 1009, meaning: "message larger than the limit", client: "not resend it" },
  defect: { code: 1011, meaning: "the server failed inside", client: "reconnect with back-off" },
  restarting: { code: 1012, meaning: "restarting", client: "reconnect after a random delay" },
  tryLater: { code: 1013, meaning: "try again later (store unavailable)", client: "reconnect with back-off" },
  protocolViolation: {
    code: 4400,
    meaning: "protocol violation (binary frame, too many bad messages)",
    client: "stop, and report"
  },
  unauthenticated: {
    code: 4401,
    meaning: "authentication failed",
    client: "stop until it has another key; then slow retry"
  },
  revoked: { code: 4403, meaning: "the key was revoked", client: "stop until it has another key" },
  silent: { code: 4408, meaning: "silent too long, or no `auth` in time", client: "reconnect" },
  replaced: {
    code: 4409,
    meaning: "replaced by a newer session of the same client",
    client: "stop; reconnecting would fight"
  },
  deleted: { code: 4410, meaning: "this agent or gateway was deleted", client: "stop" },
  tooMany: {
    code: 4429,
    meaning: "too many messages, or too many sessions of one client",
    client: "reconnect after a minute"
  },
  tooSlow: {
    code: 4441,
    meaning: "too slow: did not read for too long",
    client: "reconnect with back-off; expect a whole config"
  }
} as const satisfies Record<string, CloseCodeEntry>
export type CloseReason = keyof typeof closeCodes

/** The codes of `error{code, message}`; they stay the same between versions. */
export const errorCodes = {
  malformed_json: "The frame is not JSON.",
  invalid_message: "The message has the wrong shape; the text names the path and what is expected there.",
  unknown_type: "No message has this type. Nothing else happens.",
  unauthenticated: "Only `auth` is admitted on a connection that has not authenticated.",
  already_authenticated: "A second `auth` on the same connection; the first stays in force.",
  not_allowed: "This message is not for this type of client.",
  wireguard_key_rejected:
    "In `control.v1`: the `wireguardPublicKey` of `auth` is another client's, or no key that anybody could use. The connection is closed (4400).",
  certificate_rejected: "The certificate was not stored; the text says why.",
  ack_ahead: "In `control.v1`: the `ack` is above every revision that was sent on this connection, and is ignored.",
  nack_unknown:
    "In `control.v1`: the `nack` is of a revision that was not sent on this connection, or that was acknowledged.",
  rate_limited:
    "Too many messages, or too many of this kind; this one was dropped. Going on closes the connection (4429).",
  unavailable: "The store cannot be reached: nothing was stored, try again later."
} as const
export type ErrorCode = keyof typeof errorCodes

export const ErrorCode = Schema.Literals(Object.keys(errorCodes) as [ErrorCode, ...Array<ErrorCode>]).annotate({
  identifier: "ErrorCode",
  description: "Stable code of an error."
})
