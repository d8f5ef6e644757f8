/** What operators are told as it happens: the server-sent events of `GET /api/events`, each with its name and its data. */
import { Schema } from "effect"
import { stored } from "./sharedFields.ts"
import { HostName, Revision, SessionId, Timestamp } from "./ids.ts"
import { clientFields, nackFields } from "./resources.ts"

/** What there are rows of whose changes have revisions. */
export const EntityType = Schema.Literals(["agent", "gateway", "tunnel", "certificate", "key"]).annotate({
  identifier: "EntityType"
})
export type EntityType = typeof EntityType.Type

const happening = <const Name extends string, Fields extends Schema.Struct.Fields>(
  event: Name,
  description: string,
  data: Fields
) => Schema.Struct({ event: Schema.Literal(event), data: Schema.Struct(data) }).annotate({ description })

/** Left out by a node of before 0.3.0. */
const node = Schema.optionalKey(Schema.String).annotate({
  description: "The name of the node that the client is, or was, connected to."
})

const connectionOf = {
  ...clientFields,
  node,
  session: SessionId,
  address: stored("From where it connected."),
  level: stored("The protocol level that was agreed on.")
}

const revision = Revision.annotate({ description: "The number of the change." })

const ClientOnline = happening(
  "client.online",
  "A client has connected to any node and authenticated, or is heard of again after it was shown offline. " +
    "Whatever session it had before has ended.",
  connectionOf
)

const ClientOffline = happening(
  "client.offline",
  "The client is shown offline: this session of it has ended, or its node is gone, and there is no newer one.",
  connectionOf
)

const Change = happening("change", "A change was committed, whoever made it; to be read where it is.", {
  revision,
  entityType: EntityType,
  entityId: Schema.String.annotate({ description: "Its id; of a certificate, its domain." }),
  op: Schema.Literals(["put", "delete"])
})

const Ack = happening("ack", "A client has said that everything up to this revision is in force.", {
  ...clientFields,
  node,
  revision
})

const Nack = happening("nack", "A client could not apply a revision; what it had stays in force.", {
  ...clientFields,
  node,
  ...nackFields
})

const CertificateExpiring = happening(
  "certificate.expiring",
  "A stored certificate ends soon, or has ended. Of all processes one tells it, once for each threshold.",
  {
    domain: HostName.annotate({ description: "The domain that it is stored for." }),
    expiresAt: Timestamp.annotate({ description: "When it ends." }),
    days: Schema.Int.annotate({ description: "It ends within so many days: 30, 7 or 1; 0 when it has ended." })
  }
)

const Reset = happening("reset", "Events may be missing before this one: read the lists anew.", {
  reason: Schema.String.annotate({ description: "Why, for people." })
})

const members = [ClientOnline, ClientOffline, Change, Ack, Nack, CertificateExpiring, Reset] as const

export const ControlEvent = Schema.Union(members)
export type ControlEvent = typeof ControlEvent.Type

const onWire = <Name extends Schema.Constraint, Data extends Schema.Constraint>(
  { fields }: { readonly fields: { readonly event: Name; readonly data: Data } }
) =>
  Schema.Struct({
    id: Schema.String.annotate({ description: "Opaque: to be sent as `Last-Event-ID` to go on after this event." }),
    event: fields.event,
    data: Schema.fromJsonString(fields.data)
  })

/** An event as it is sent: `data` is JSON on one line. */
export const SentEvent = Schema.Union([
  onWire(ClientOnline),
  onWire(ClientOffline),
  onWire(Change),
  onWire(Ack),
  onWire(Nack),
  onWire(CertificateExpiring),
  onWire(Reset)
])
