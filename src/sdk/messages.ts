/** Decodes frames of control.v1 for a client. Messages newer than the client are ignored. */
import {
  AuthSuccessV1,
  CertificateAccepted,
  ConfigForAgentV1,
  ConfigForGatewayV1,
  Drain,
  HeartbeatAck
} from "#schema/messagesFromControlV1.ts"
import { fieldErrorsOf } from "#schema/fieldErrors.ts"
import { type ClientType, Revision } from "#schema/ids.ts"
import { AgentOfGateway, AgentTunnelV1, CertificateOfDomain, GatewayOfAgent, GatewayTunnelV1 } from "#schema/views.ts"
import { Result, Schema } from "effect"

export type Config = typeof ConfigForAgentV1.Type | typeof ConfigForGatewayV1.Type
export type AuthSuccess = typeof AuthSuccessV1.Type["data"]

/** The list of a view that a delta changes. */
export type Table = "agents" | "gateways" | "tunnels" | "certificates"

/** Puts one row, or deletes the row if `row` is undefined. */
export interface Delta {
  readonly table: Table
  readonly key: string
  readonly row: object | undefined
  readonly revision: number
  readonly previous: number
}

export type Message =
  | { readonly _tag: "AuthSuccess"; readonly authSuccess: AuthSuccess }
  | { readonly _tag: "Config"; readonly config: Config }
  | { readonly _tag: "Delta"; readonly delta: Delta }
  | { readonly _tag: "HeartbeatAck"; readonly revision: number }
  | { readonly _tag: "CertificateAccepted"; readonly domain: string }
  | { readonly _tag: "Drain"; readonly reconnectAfterMs: number }
  | { readonly _tag: "AuthError"; readonly message: string; readonly retryAfterMs: number | undefined }
  | { readonly _tag: "Error"; readonly code: string; readonly message: string }
  /** A known type in a shape that this client cannot decode; `revision` if the frame has one. */
  | {
    readonly _tag: "Unreadable"
    readonly type: string
    readonly reason: string
    readonly revision: number | undefined
  }
  /** A type that this version of the client does not know. The client ignores the message. */
  | { readonly _tag: "Unknown"; readonly type: string }

/** Decodes one text frame for a client of this type. Never throws. */
export const readFrame = (text: string, clientType: ClientType): Message => {
  const frame = Result.getOrUndefined(decodeEnvelope(text))
  if (frame === undefined) return { _tag: "Unknown", type: "" }
  const read = readers[clientType].get(frame.type)
  if (read === undefined) return { _tag: "Unknown", type: frame.type }
  return Result.getOrElse(read(withDefaults(frame)), ({ issue }) => ({
    _tag: "Unreadable" as const,
    type: frame.type,
    // Only the path, because the invalid value may be a secret.
    reason: `${frame.type} cannot be read: ${fieldErrorsOf(issue)[0]?.path ?? ""}`.slice(0, 300),
    revision: isRevision(frame["revision"]) ? frame["revision"] : undefined
  }))
}

/** Schemas of `config`, which is also the format of the state file. */
export const configSchemas = { agent: ConfigForAgentV1, gateway: ConfigForGatewayV1 }

/** Fields that a server of version 0.3 or older does not send. A tunnel without a port cannot carry traffic. */
const tunnelDefaults = { name: null, protocol: "http", port: 0, listenPort: null, proxyProtocol: "none", tls: "verify" }
const configDefaults = { mtu: 1_280 }

function withDefaults(frame: typeof Envelope.Type): typeof Envelope.Type {
  const { data, type } = frame
  if (!isRecord(data)) return frame
  if (type === "tunnel_create" || type === "tunnel_update") return { ...frame, data: { ...tunnelDefaults, ...data } }
  if (type !== "config") return frame
  const tunnels = Array.isArray(data["tunnels"])
    ? data["tunnels"].map((row: unknown) => isRecord(row) ? { ...tunnelDefaults, ...row } : row)
    : data["tunnels"]
  return { ...frame, data: { ...configDefaults, ...data, tunnels } }
}

const isRecord = Schema.is(Schema.Record(Schema.String, Schema.Unknown))

const Envelope = Schema.StructWithRest(Schema.Struct({ type: Schema.String }), [
  Schema.Record(Schema.String, Schema.Unknown)
])
const decodeEnvelope = Schema.decodeUnknownResult(Schema.fromJsonString(Envelope))
const isRevision = Schema.is(Revision)

type Reader = (frame: unknown) => Result.Result<Message, Schema.SchemaError>

/** Accepts every error code, because a newer server may send codes that this client does not know. */
const AnyError = Schema.Struct({ data: Schema.Struct({ code: Schema.String, message: Schema.String }) })
const AnyAuthError = Schema.Struct({
  data: Schema.Struct({ message: Schema.String, retryAfterMs: Schema.optionalKey(Schema.Finite) })
})

const common: ReadonlyArray<readonly [string, Reader]> = [
  ["auth_success", messageReader(AuthSuccessV1, ({ data }) => ({ _tag: "AuthSuccess", authSuccess: data }))],
  [
    "auth_error",
    messageReader(AnyAuthError, ({ data }) => ({
      _tag: "AuthError",
      message: data.message,
      retryAfterMs: data.retryAfterMs
    }))
  ],
  ["heartbeat_ack", messageReader(HeartbeatAck, ({ data }) => ({ _tag: "HeartbeatAck", revision: data.revision }))],
  ["drain", messageReader(Drain, ({ data }) => ({ _tag: "Drain", reconnectAfterMs: data.reconnectAfterMs }))],
  ["error", messageReader(AnyError, ({ data }) => ({ _tag: "Error", code: data.code, message: data.message }))],
  [
    "certificate_accepted",
    messageReader(CertificateAccepted, ({ data }) => ({ _tag: "CertificateAccepted", domain: data.domain }))
  ]
]

const readers: Record<ClientType, ReadonlyMap<string, Reader>> = {
  agent: new Map([
    ...common,
    ["config", messageReader(ConfigForAgentV1, (config) => ({ _tag: "Config", config }))],
    ...deltaReaders("gateways", "gateway", GatewayOfAgent),
    ...deltaReaders("tunnels", "tunnel", AgentTunnelV1)
  ]),
  gateway: new Map([
    ...common,
    ["config", messageReader(ConfigForGatewayV1, (config) => ({ _tag: "Config", config }))],
    ...deltaReaders("agents", "agent", AgentOfGateway),
    ...deltaReaders("tunnels", "tunnel", GatewayTunnelV1),
    ...deltaReaders("certificates", "certificate", CertificateOfDomain)
  ])
}

type Row = { readonly id: string } | { readonly domain: string }

function deltaReaders(table: Table, name: string, row: Schema.Codec<Row, unknown>): ReadonlyArray<[string, Reader]> {
  const put = deltaReader(table, row, true)
  const key = table === "certificates"
    ? Schema.Struct({ domain: Schema.String })
    : Schema.Struct({ id: Schema.String })
  return [[`${name}_create`, put], [`${name}_update`, put], [`${name}_delete`, deltaReader(table, key, false)]]
}

function deltaReader(table: Table, row: Schema.Codec<Row, unknown>, isPut: boolean): Reader {
  return messageReader(
    Schema.Struct({ revision: Revision, previous: Revision, data: row }),
    ({ data, previous, revision }) => ({
      _tag: "Delta",
      delta: { table, key: "id" in data ? data.id : data.domain, row: isPut ? data : undefined, revision, previous }
    })
  )
}

function messageReader<A>(schema: Schema.Codec<A, unknown>, toMessage: (value: A) => Message): Reader {
  const decode = Schema.decodeUnknownResult(schema)
  return (frame) => Result.map(decode(frame), toMessage)
}
