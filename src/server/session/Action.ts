/** Actions that a session asks of its connection, and events that the connection reports. Types only. */
import type { Nack, Resume } from "#schema/messagesFromClients.ts"
import type { CloseReason, ErrorCode } from "#schema/codes.ts"
import type { ControlMessage } from "#schema/messagesFromControl.ts"
import type { ControlMessageV1 } from "#schema/messagesFromControlV1.ts"
import type { CertificateObtained } from "#schema/messagesFromGateways.ts"
import type { ClientRef, GatewayId, Revision } from "#schema/ids.ts"
import type { ClientMessage, FrameError } from "#schema/protocol.ts"
import type { StatusReport } from "#schema/statusMessage.ts"
import type { Result } from "effect"

export type Event =
  /** A decoded text frame; `at` is in milliseconds of one monotonic clock. */
  | { readonly _tag: "Received"; readonly frame: Result.Result<ClientMessage, FrameError>; readonly at: number }
  /** A text frame before `auth` that is larger than `maxAuthMessageBytes`. */
  | { readonly _tag: "ReceivedTooBig" }
  /** A binary frame; the protocol has none. */
  | { readonly _tag: "ReceivedBinary" }
  /** Results of `Authenticate`. */
  | AuthResult
  /** Results of `StoreCertificate`. */
  | { readonly _tag: "CertificateStored"; readonly domain: string }
  | { readonly _tag: "CertificateNotStored"; readonly code: ErrorCode; readonly reason: string }
  /** `Acknowledge` or `Reject` named a revision that the client cannot acknowledge or reject. */
  | { readonly _tag: "NotRecorded"; readonly code: ErrorCode; readonly reason: string }

export type AuthResult =
  | { readonly _tag: "Authenticated"; readonly client: ClientRef }
  | { readonly _tag: "InvalidKey" }
  | { readonly _tag: "StoreUnavailable" }
  | { readonly _tag: "TooManySessions"; readonly retryAfterMs: number }
  | { readonly _tag: "ClientGone" }
  | { readonly _tag: "WireguardKeyRejected"; readonly reason: string }

export type Action =
  | {
    readonly _tag: "Authenticate"
    readonly apiKey: string
    readonly publicIp: string | null
    readonly wireguardPublicKey?: string
    readonly clientVersion?: string
  }
  | { readonly _tag: "Send"; readonly message: ControlMessage | ControlMessageV1 }
  /** Send the config, and from its revision on every delta. */
  | { readonly _tag: "StartView" }
  /**
   * Send `auth_success` of `control.v1`, then the changes since `resume` if they are known and a config otherwise, and from
   * there on every delta.
   */
  | { readonly _tag: "ResumeView"; readonly resume: Resume | undefined }
  /** Send a config now; deltas continue from its revision. */
  | { readonly _tag: "Resync" }
  | { readonly _tag: "AnswerHeartbeat"; readonly timestamp: number }
  /** Record that the client has applied everything up to this revision. */
  | { readonly _tag: "Acknowledge"; readonly revision: Revision }
  /** Record that the client has rejected a change. */
  | { readonly _tag: "Reject"; readonly nack: typeof Nack.Type["data"] }
  /** Record that the client was alive when its last frame arrived. */
  | { readonly _tag: "RecordActivity" }
  /** Record the client's status of tunnels and peers. */
  | { readonly _tag: "RecordStatus"; readonly status: StatusReport }
  | {
    readonly _tag: "StoreCertificate"
    readonly gateway: GatewayId
    readonly certificate: typeof CertificateObtained.Type["data"]
  }
  /** Record that the client is closed because it kept sending too many messages. */
  | { readonly _tag: "RecordFlood" }
  | { readonly _tag: "Close"; readonly reason: CloseReason }
