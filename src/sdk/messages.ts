/** The frames of control.v1 as a client reads them: what it knows is decoded once, here; what is newer than it is passed over. */
import {
  AuthSuccessV1,
  CertificateAccepted,
  ConfigForAgentV1,
  ConfigForGatewayV1,
  Drain,
  HeartbeatAck
} from "#schema/controlMessagesV1.ts"
import { faultsOf } from "#schema/inputErrors.ts"
import { type ClientType, Revision } from "#schema/ids.ts"
import { AgentOfGateway, AgentTunnel, CertificateOfDomain, GatewayOfAgent, GatewayTunnel } from "#schema/views.ts"
import { Result, Schema } from "effect"

export type Config = typeof ConfigForAgentV1.Type | typeof ConfigForGatewayV1.Type
export type Welcome = typeof AuthSuccessV1.Type["data"]

/** Which list of a view a step is about. */
export type Table = "agents" | "gateways" | "tunnels" | "certificates"

/** One row is put, or deleted when there is no `row`. */
export interface Step {
  readonly table: Table
  readonly key: string
  readonly row: object | undefined
  readonly revision: number
  readonly previous: number
}

export type Message =
  | { readonly _tag: "Welcome"; readonly welcome: Welcome }
  | { readonly _tag: "Config"; readonly config: Config }
  | { readonly _tag: "Step"; readonly step: Step }
  | { readonly _tag: "HeartbeatAck"; readonly revision: number }
  | { readonly _tag: "CertificateAccepted"; readonly domain: string }
  | { readonly _tag: "Drain"; readonly reconnectAfterMs: number }
  | { readonly _tag: "AuthError"; readonly message: string }
  | { readonly _tag: "Error"; readonly code: string; readonly message: string }
  /** A known type in a shape that this client cannot read; `revision` if it has one. */
  | {
    readonly _tag: "Unreadable"
    readonly type: string
    readonly reason: string
    readonly revision: number | undefined
  }
  /** Newer than this client, and none of its business. */
  | { readonly _tag: "Unknown"; readonly type: string }

/** One text frame for a client of this type. Never throws. */
export const readFrame = (text: string, self: ClientType): Message => {
  const frame = Result.getOrUndefined(decodeEnvelope(text))
  if (frame === undefined) return { _tag: "Unknown", type: "" }
  const read = readers[self].get(frame.type)
  if (read === undefined) return { _tag: "Unknown", type: frame.type }
  return Result.getOrElse(read(frame), ({ issue }) => ({
    _tag: "Unreadable" as const,
    type: frame.type,
    // The path alone: what is wrong there may be a secret.
    reason: `${frame.type} cannot be read: ${faultsOf(issue)[0]?.path ?? ""}`.slice(0, 300),
    revision: isRevision(frame["revision"]) ? frame["revision"] : undefined
  }))
}

/** The data of a config, as the client's own state file keeps it. */
export const configFor = { agent: ConfigForAgentV1, gateway: ConfigForGatewayV1 }

const Envelope = Schema.StructWithRest(Schema.Struct({ type: Schema.String }), [
  Schema.Record(Schema.String, Schema.Unknown)
])
const decodeEnvelope = Schema.decodeUnknownResult(Schema.fromJsonString(Envelope))
const isRevision = Schema.is(Revision)

type Reader = (frame: unknown) => Result.Result<Message, Schema.SchemaError>

/** Codes are for programs, and a newer server may have new ones: here any text is one. */
const AnyError = Schema.Struct({ data: Schema.Struct({ code: Schema.String, message: Schema.String }) })
const AnyAuthError = Schema.Struct({ data: Schema.Struct({ message: Schema.String }) })

const common: ReadonlyArray<readonly [string, Reader]> = [
  ["auth_success", reader(AuthSuccessV1, ({ data }) => ({ _tag: "Welcome", welcome: data }))],
  ["auth_error", reader(AnyAuthError, ({ data }) => ({ _tag: "AuthError", message: data.message }))],
  ["heartbeat_ack", reader(HeartbeatAck, ({ data }) => ({ _tag: "HeartbeatAck", revision: data.revision }))],
  ["drain", reader(Drain, ({ data }) => ({ _tag: "Drain", reconnectAfterMs: data.reconnectAfterMs }))],
  ["error", reader(AnyError, ({ data }) => ({ _tag: "Error", code: data.code, message: data.message }))],
  [
    "certificate_accepted",
    reader(CertificateAccepted, ({ data }) => ({ _tag: "CertificateAccepted", domain: data.domain }))
  ]
]

const readers: Record<ClientType, ReadonlyMap<string, Reader>> = {
  agent: new Map([
    ...common,
    ["config", reader(ConfigForAgentV1, (config) => ({ _tag: "Config", config }))],
    ...stepsOf("gateways", "gateway", GatewayOfAgent),
    ...stepsOf("tunnels", "tunnel", AgentTunnel)
  ]),
  gateway: new Map([
    ...common,
    ["config", reader(ConfigForGatewayV1, (config) => ({ _tag: "Config", config }))],
    ...stepsOf("agents", "agent", AgentOfGateway),
    ...stepsOf("tunnels", "tunnel", GatewayTunnel),
    ...stepsOf("certificates", "certificate", CertificateOfDomain)
  ])
}

type Row = { readonly id: string } | { readonly domain: string }

function stepsOf(table: Table, name: string, row: Schema.Codec<Row, unknown>): ReadonlyArray<[string, Reader]> {
  const put = stepReader(table, row, true)
  const key = table === "certificates"
    ? Schema.Struct({ domain: Schema.String })
    : Schema.Struct({ id: Schema.String })
  return [[`${name}_create`, put], [`${name}_update`, put], [`${name}_delete`, stepReader(table, key, false)]]
}

function stepReader(table: Table, row: Schema.Codec<Row, unknown>, isPut: boolean): Reader {
  return reader(
    Schema.Struct({ revision: Revision, previous: Revision, data: row }),
    ({ data, previous, revision }) => ({
      _tag: "Step",
      step: { table, key: "id" in data ? data.id : data.domain, row: isPut ? data : undefined, revision, previous }
    })
  )
}

function reader<A>(schema: Schema.Codec<A, unknown>, toMessage: (value: A) => Message): Reader {
  const decode = Schema.decodeUnknownResult(schema)
  return (frame) => Result.map(decode(frame), toMessage)
}
