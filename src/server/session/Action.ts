/** Actions that a session asks its connection to perform, and events that the connection reports back. Types only. */
import type { TunnelReport } from "#schema/agentMessages.ts"
import type { Nack, Resume } from "#schema/clientMessages.ts"
import type { CloseReason, ErrorCode } from "#schema/codes.ts"
import type { ControlMessage } from "#schema/controlMessages.ts"
import type { ControlMessageV1 } from "#schema/controlMessagesV1.ts"
import type { CertificateObtained } from "#schema/gatewayMessages.ts"
import type { AgentId, ClientRef, GatewayId, Revision } from "#schema/ids.ts"
import type { ClientMessage, FrameError } from "#schema/protocol.ts"
import type { Result } from "effect"

export type Event =
  /** A text frame, decoded; `at` in milliseconds of one monotonic clock. */
  | { readonly _tag: "Received"; readonly frame: Result.Result<ClientMessage, FrameError>; readonly at: number }
  /** A text frame that is larger than what is read before `auth`, and comes before it. */
  | { readonly _tag: "ReceivedTooBig" }
  /** A binary frame, which no client has any reason to send. */
  | { readonly _tag: "ReceivedBinary" }
  /** What became of `Authenticate`. */
  | { readonly _tag: "Authenticated"; readonly client: ClientRef }
  | { readonly _tag: "Refused" }
  | { readonly _tag: "Unavailable" }
  | { readonly _tag: "TooOften" }
  | { readonly _tag: "Deleted" }
  | { readonly _tag: "KeyRejected"; readonly reason: string }
  /** What became of `StoreCertificate`. */
  | { readonly _tag: "Stored"; readonly domain: string }
  | { readonly _tag: "NotStored"; readonly code: ErrorCode; readonly reason: string }
  /** What became of `Acknowledge` and `Refuse`, if they were of no use. */
  | { readonly _tag: "NotNoted"; readonly code: ErrorCode; readonly reason: string }

export type Action =
  | {
    readonly _tag: "Authenticate"
    readonly apiKey: string
    readonly publicIp: string | null
    readonly wireguardPublicKey?: string
    readonly clientVersion?: string
  }
  | { readonly _tag: "Send"; readonly message: ControlMessage | ControlMessageV1 }
  /** Send the config and, from its revision on, every step. */
  | { readonly _tag: "Follow" }
  /** The same after the message that says how it begins: with what the client missed, if that can be told. */
  | { readonly _tag: "Welcome"; readonly resume: Resume | undefined }
  /** Send a config now; the steps go on from there. */
  | { readonly _tag: "Resync" }
  | { readonly _tag: "AnswerHeartbeat"; readonly timestamp: number }
  /** Everything up to this revision is in force at the client. */
  | { readonly _tag: "Acknowledge"; readonly revision: Revision }
  | { readonly _tag: "Refuse"; readonly nack: typeof Nack.Type["data"] }
  /** The client is alive. */
  | { readonly _tag: "Touch" }
  | { readonly _tag: "Report"; readonly agent: AgentId; readonly tunnels: ReadonlyArray<TunnelReport> }
  | {
    readonly _tag: "StoreCertificate"
    readonly gateway: GatewayId
    readonly certificate: typeof CertificateObtained.Type["data"]
  }
  | { readonly _tag: "Close"; readonly reason: CloseReason }
