/** Protocol codec: message types by level and sender, decoding and encoding of frames. */
import { Result, Schema, type SchemaIssue } from "effect"
import { AgentAuth, AgentAuthV1, type AgentMessage, type AgentMessageV1, Status } from "./messagesFromAgents.ts"
import { Ack, ApiKey, Heartbeat, Nack, Resync } from "./messagesFromClients.ts"
import type { ErrorCode } from "./codes.ts"
import { allowedMessages } from "./allowedMessages.ts"
import type { ControlMessage } from "./messagesFromControl.ts"
import type { ControlMessageV1 } from "./messagesFromControlV1.ts"
import { fieldErrorsOf } from "./fieldErrors.ts"
import {
  CertificateObtained,
  GatewayAuth,
  GatewayAuthV1,
  type GatewayMessage,
  type GatewayMessageV1
} from "./messagesFromGateways.ts"
import type { ClientType } from "./ids.ts"
import { StatusV1 } from "./statusMessage.ts"

export { AgentMessage, AgentMessageV1 } from "./messagesFromAgents.ts"
export { ControlMessage } from "./messagesFromControl.ts"
export { ControlMessageV1 } from "./messagesFromControlV1.ts"
export { GatewayMessage, GatewayMessageV1 } from "./messagesFromGateways.ts"

/**
 * Protocol level of a connection, negotiated at the upgrade. `plain` means no subprotocol. Any other level is the name of a
 * subprotocol (RFC 6455 section 1.9).
 */
export const Level = Schema.Literals(["plain", "control.v1"])
export type Level = typeof Level.Type

/** Subprotocols that a client may offer in `Sec-WebSocket-Protocol`. */
export const subprotocols: ReadonlyArray<Exclude<Level, "plain">> = ["control.v1"]

export type ClientMessage = AgentMessage | GatewayMessage | AgentMessageV1 | GatewayMessageV1

/** Reason why a frame is not a message, and the data of the `error` that answers it. */
export interface FrameError {
  readonly code: ErrorCode
  readonly message: string
  /** The frame is an `auth` whose `apiKey` is missing or cannot be a key. */
  readonly isInvalidKey?: true
}

type Decoder = (input: unknown) => Result.Result<ClientMessage, SchemaIssue.Issue>

/** One decoder for each sender that `allowedMessages` lists, and no other. */
type Decoders<Rules extends Record<string, { readonly senders: ReadonlyArray<ClientType> }>> = {
  readonly [Type in keyof Rules]: Readonly<Record<Rules[Type]["senders"][number], Decoder>>
}

const fromBothTypes = (schema: Schema.Codec<ClientMessage, unknown>) => ({
  agent: decoder(schema),
  gateway: decoder(schema)
})

const plain: Decoders<typeof allowedMessages.plain> = {
  auth: { agent: decoder(AgentAuth), gateway: decoder(GatewayAuth) },
  heartbeat: fromBothTypes(Heartbeat),
  status: { agent: decoder(Status) },
  certificate_obtained: { gateway: decoder(CertificateObtained) }
}

/** A message of a type that only the other type of client may send is rejected before its data is decoded. */
const decoders: { readonly [L in Level]: Decoders<typeof allowedMessages[L]> } = {
  plain,
  "control.v1": {
    ...plain,
    auth: { agent: decoder(AgentAuthV1), gateway: decoder(GatewayAuthV1) },
    status: fromBothTypes(StatusV1),
    ack: fromBothTypes(Ack),
    nack: fromBothTypes(Nack),
    resync: fromBothTypes(Resync)
  }
}

/** Types of messages that clients may send at this level, each with its senders. */
export const messageSenders = (
  level: Level
): ReadonlyArray<readonly [ClientMessage["type"], ReadonlyArray<ClientType>]> =>
  Object.entries(allowedMessages[level]).map(([type, { senders }]) => [type as ClientMessage["type"], senders])

/** Whether clients at this level may send this type of message. */
export const supportsMessage = (level: Level, type: ClientMessage["type"]): boolean => type in allowedMessages[level]

/**
 * Decodes a text frame into a message, or into the error that answers it. A sender of unknown type is decoded as a gateway,
 * because a gateway's `auth` has one field more. The message consists of new objects, so that no undeclared field of the
 * parsed JSON gets into it.
 */
export const decodeFrame = (
  text: string,
  sender: ClientType | undefined,
  level: Level = "plain"
): Result.Result<ClientMessage, FrameError> => {
  const json = parse(text)
  if (Result.isFailure(json)) return Result.fail({ code: "malformed_json", message: "the frame is not valid JSON" })
  const type = typeOf(json.success)
  if (type === undefined) {
    return Result.fail({
      code: "invalid_message",
      message: "expected an object { \"type\": string, \"data\": object }"
    })
  }
  const known: Partial<Record<string, Partial<Record<ClientType, Decoder>>>> = decoders[level]
  const bySender = Object.hasOwn(known, type) ? known[type] : undefined
  if (bySender === undefined) {
    return Result.fail({ code: "unknown_type", message: `unknown message type ${JSON.stringify(type.slice(0, 64))}` })
  }
  const decode = sender === undefined ? bySender.gateway ?? bySender.agent : bySender[sender]
  if (decode === undefined) {
    return Result.fail({
      code: "not_allowed",
      message: `${type} is not a message of ${sender === "agent" ? "agents" : "gateways"}`
    })
  }
  return Result.mapError(
    decode(json.success),
    (issue) => ({
      code: "invalid_message",
      message: describeFirstError(issue),
      ...(type === "auth" && !hasApiKey(json.success) ? { isInvalidKey: true } : {})
    })
  )
}

/** Encodes a message of Control as the text of its frame. */
export const encodeMessage = (message: ControlMessage | ControlMessageV1): string => JSON.stringify(message)

function decoder<S extends Schema.Codec<ClientMessage, unknown>>(schema: S): Decoder {
  const decode = Schema.decodeUnknownResult(schema)
  return (input) => Result.mapError(decode(input), (error) => error.issue)
}

function parse(text: string): Result.Result<unknown, undefined> {
  return Result.try({ try: () => JSON.parse(text) as unknown, catch: () => undefined })
}

const hasApiKey = Schema.is(Schema.Struct({ data: Schema.Struct({ apiKey: ApiKey }) }))

function typeOf(json: unknown): string | undefined {
  return typeof json === "object" && json !== null && "type" in json && typeof json.type === "string"
    ? json.type
    : undefined
}

/** Path and text of the first error. At most 300 characters, because the text may quote the client's input. */
function describeFirstError(issue: SchemaIssue.Issue): string {
  const [first] = fieldErrorsOf(issue)
  if (first === undefined) return "invalid message"
  return `${first.path === "" ? "" : `${first.path}: `}${first.message}`.slice(0, 300)
}
