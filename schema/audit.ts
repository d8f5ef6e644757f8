/** Who changed what, as operators see it. */
import { Schema, SchemaGetter } from "effect"
import { EntityType } from "./events.ts"
import { Revision, Timestamp } from "./ids.ts"
import { Limit } from "./resources.ts"

/** What changes are noted of: of the network itself, that a loss was accepted; of the master key, that another one is; of admin tokens, which have no revision. */
const AuditedType = Schema.Literals([...EntityType.literals, "network", "token", "master_key"]).annotate({
  identifier: "AuditedType"
})
type AuditedType = typeof AuditedType.Type

export const AuditEntry = Schema.Struct({
  id: Schema.Int.annotate({ description: "Higher is later." }),
  at: Timestamp.annotate({ description: "When it was committed." }),
  actor: Schema.String.annotate({
    description:
      "`admin` for the token that the server was started with; `token:<id>` for an admin token; `library`; `gateway:<id>`; `client` for what clients tell of themselves; `control`; `sql:<user>` for who wrote to the database directly."
  }),
  actorName: Schema.NullOr(Schema.String).annotate({ description: "The name that an admin token had then." }),
  address: Schema.NullOr(Schema.String).annotate({ description: "From where; null if it was the server itself." }),
  action: Schema.String.annotate({ description: "Such as `tunnel.create`: what, and `create`, `update` or `delete`." }),
  entityType: AuditedType,
  entityId: Schema.String.annotate({
    description: "Its id; of a certificate, its domain; of the network, its timeline; of the master key, its id."
  }),
  name: Schema.NullOr(Schema.String).annotate({
    description: "Its name then, or its domain; of an API key, whose it is. Null if that was not noted."
  }),
  fields: Schema.NullOr(Schema.Array(Schema.String)).annotate({
    description: "Of an update, the columns that changed, never what is in them. Null if that was not noted."
  }),
  revision: Schema.NullOr(Revision).annotate({
    description: "The number of the change; null where clients are not told, as of admin tokens."
  })
}).annotate({ identifier: "AuditEntry", description: "One change of one row. Entries are never changed." })
export type AuditEntry = typeof AuditEntry.Type

/** An entry's id in base64url. */
const AuditCursor: Schema.Codec<number, string> = Schema.String.annotate({
  description: "Opaque: the `nextCursor` of the page before."
}).pipe(
  Schema.decodeTo(
    Schema.StringFromBase64Url.check(Schema.isPattern(/^\d{1,15}$/u, { message: "expected a `nextCursor`" }))
  ),
  Schema.decodeTo(Schema.Int, {
    decode: SchemaGetter.transform((text: string) => Number(text)),
    encode: SchemaGetter.transform((id: number) => String(id))
  })
)

export const auditQuery = {
  limit: Schema.optionalKey(Limit),
  cursor: Schema.optionalKey(AuditCursor),
  entityType: Schema.optionalKey(AuditedType).annotate({ description: "Only changes of these." }),
  entityId: Schema.optionalKey(Schema.String.check(
    Schema.isBetweenLength(1, 256),
    Schema.isPattern(/^[^\0]*$/u, { message: "no id has a NUL character" })
  )).annotate({ description: "Only changes of what has this id, or this domain." }),
  actor: Schema.optionalKey(
    Schema.String.check(
      Schema.isBetweenLength(1, 256),
      Schema.isPattern(/^[^\0]*$/u, { message: "no actor has a NUL" })
    )
  ).annotate({ description: "Only changes by this `actor`." }),
  since: Schema.optionalKey(Timestamp).annotate({ description: "Only changes at this time or later." }),
  until: Schema.optionalKey(Timestamp).annotate({ description: "Only changes before this time." })
}

export interface AuditRequest {
  readonly limit: number
  /** Entries older than this one. */
  readonly before: number | undefined
  readonly entityType: AuditedType | undefined
  readonly entityId: string | undefined
  readonly actor?: string | undefined
  readonly since?: string | undefined
  readonly until?: string | undefined
}

export const AuditPage = Schema.Struct({ items: Schema.Array(AuditEntry), nextCursor: Schema.NullOr(AuditCursor) })
export type AuditPage = typeof AuditPage.Type
