/** Server-sent events of `GET /api/events`, each with its name and data. */
import { Schema } from "effect"
import { count, storedText } from "./sharedFields.ts"
import { GatewayId, HostName, Revision, SessionId, Timeline, Timestamp, TunnelId } from "./ids.ts"
import { Loss } from "./rowKinds.ts"
import { clientFields, nackFields } from "./resources.ts"

/** Types of rows whose changes have revisions. */
export const EntityType = Schema.Literals(["agent", "gateway", "tunnel", "certificate", "key"]).annotate({
  identifier: "EntityType"
})
export type EntityType = typeof EntityType.Type

const eventSchema = <const Name extends string, Fields extends Schema.Struct.Fields>(
  event: Name,
  description: string,
  data: Fields
) => Schema.Struct({ event: Schema.Literal(event), data: Schema.Struct(data) }).annotate({ description })

/** Absent from events of nodes before 0.3.0. */
const node = Schema.optionalKey(Schema.String).annotate({
  description: "Name of the node that the client is or was connected to."
})

const connectionFields = {
  ...clientFields,
  node,
  session: SessionId,
  address: storedText("IP address of the client."),
  level: storedText("Negotiated protocol level: `plain` or `control.v1`.")
}

const revision = Revision.annotate({ description: "Revision of the change." })

const ClientOnline = eventSchema(
  "client.online",
  "A client has authenticated on any node, or has sent a message again after it was marked offline. " +
    "Every earlier session of the client has ended.",
  connectionFields
)

const ClientOffline = eventSchema(
  "client.offline",
  "The client is offline, because its session has ended or its node is lost. It has no newer session.",
  connectionFields
)

const Change = eventSchema(
  "change",
  "A change was committed through the API, the library or SQL. The event has no values: read the row from the API.",
  {
    revision,
    entityType: EntityType,
    entityId: Schema.String.annotate({ description: "Id of the row; for a certificate, its domain." }),
    op: Schema.Literals(["put", "delete"])
  }
)

const Ack = eventSchema("ack", "A client has acknowledged everything up to this revision as applied.", {
  ...clientFields,
  node,
  revision
})

const Nack = eventSchema("nack", "A client could not apply a revision and keeps its previous configuration.", {
  ...clientFields,
  node,
  ...nackFields
})

const servingFields = {
  tunnelId: TunnelId,
  domain: Schema.NullOr(Schema.String).annotate({ description: "Domain of the tunnel; null if it has none." }),
  gatewayId: GatewayId,
  status: storedText("The gateway's report."),
  detail: Schema.NullOr(Schema.String).annotate({ description: "Reason; null if the gateway gave none." })
}

const TunnelServing = eventSchema(
  "tunnel.serving",
  "A gateway reports that it serves a tunnel, after another report or none.",
  servingFields
)

const TunnelNotServing = eventSchema(
  "tunnel.not-serving",
  "A gateway reports another reason why it does not serve a tunnel. A gateway that goes offline has only `client.offline`.",
  servingFields
)

const CertificateExpiring = eventSchema(
  "certificate.expiring",
  "A stored certificate expires soon or has expired. One node publishes this event, once for each threshold.",
  {
    domain: HostName.annotate({ description: "Domain of the certificate." }),
    expiresAt: Timestamp.annotate({ description: "Time of expiry." }),
    percentLeft: count("Threshold in percent of the validity: 25, 8 or 2 before the expiry; 0 after it."),
    days: count("Whole days until the expiry, rounded up; 0 after it.")
  }
)

const CertificatePeculiar = eventSchema(
  "certificate.peculiar",
  "A stored certificate is one that browsers may reject or that an operator may not expect.",
  {
    domain: HostName.annotate({ description: "Domain of the certificate." }),
    source: storedText("Who stored it: an `actor` as in the audit, for example `gateway:5f0c`."),
    peculiarity: Schema.Literals(["self-signed", "issuer-changed", "far-future"]).annotate({
      description:
        "`self-signed`: it is its own issuer. `issuer-changed`: another issuer than that of the replaced one. " +
        "`far-future`: it expires more than 398 days from now."
    })
  }
)

const UpdateHeld = eventSchema(
  "update.held",
  "The loss guard of this node holds an update back from its clients, because many rows are missing that were not deleted. " +
    "Restore the rows, or accept the loss with `POST /api/network/acceptance`. Every node publishes its own event.",
  { timeline: Timeline, revision, losses: Schema.Array(Loss) }
)

const UpdateReleased = eventSchema(
  "update.released",
  "The loss guard of this node sends the held update to its clients, because the rows returned or the loss was accepted.",
  { timeline: Timeline, revision }
)

const Reset = eventSchema("reset", "Events before this one may be missing. Read the lists again.", {
  reason: Schema.String.annotate({ description: "Reason for people." })
})

const members = [
  ClientOnline,
  ClientOffline,
  Change,
  Ack,
  Nack,
  TunnelServing,
  TunnelNotServing,
  CertificateExpiring,
  CertificatePeculiar,
  UpdateHeld,
  UpdateReleased,
  Reset
] as const

export const ControlEvent = Schema.Union(members)
export type ControlEvent = typeof ControlEvent.Type

const toServerSentEvent = <Name extends Schema.Constraint, Data extends Schema.Constraint>(
  { fields }: { readonly fields: { readonly event: Name; readonly data: Data } }
) =>
  Schema.Struct({
    id: Schema.String.annotate({ description: "Opaque. Send it as `Last-Event-ID` to continue after this event." }),
    event: fields.event,
    data: Schema.fromJsonString(fields.data)
  })

/** Encoded event: `data` is JSON on one line. */
export const ServerSentEvent = Schema.Union([
  toServerSentEvent(ClientOnline),
  toServerSentEvent(ClientOffline),
  toServerSentEvent(Change),
  toServerSentEvent(Ack),
  toServerSentEvent(Nack),
  toServerSentEvent(TunnelServing),
  toServerSentEvent(TunnelNotServing),
  toServerSentEvent(CertificateExpiring),
  toServerSentEvent(CertificatePeculiar),
  toServerSentEvent(UpdateHeld),
  toServerSentEvent(UpdateReleased),
  toServerSentEvent(Reset)
])
