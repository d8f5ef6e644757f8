/** Who changed what, as operators see it. */
import { Schema, SchemaGetter } from "effect"
import { EntityType } from "./events.ts"
import { Revision, Timestamp } from "./ids.ts"
import { Limit } from "./resources.ts"

/** What changes are noted of: of the network itself, that a loss was accepted. */
const AuditedType = Schema.Literals([...EntityType.literals, "network"]).annotate({ identifier: "AuditedType" })
type AuditedType = typeof AuditedType.Type

export const AuditEntry = Schema.Struct({
  id: Schema.Int.annotate({ description: "Higher is later." }),
  at: Timestamp.annotate({ description: "When it was committed." }),
  actor: Schema.String.annotate({
    description:
      "`admin`; `library`; `gateway:<id>`; `client` for what clients tell of themselves; `control`; `sql:<user>` for who wrote to the database directly."
  }),
  address: Schema.NullOr(Schema.String).annotate({ description: "From where; null if it was the server itself." }),
  action: Schema.String.annotate({ description: "Such as `tunnel.create`: what, and `create`, `update` or `delete`." }),
  entityType: AuditedType,
  entityId: Schema.String.annotate({
    description: "Its id; of a certificate, its domain; of the network, its timeline."
  }),
  revision: Revision.annotate({ description: "The number of the change." })
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
  )).annotate({ description: "Only changes of what has this id, or this domain." })
}

export interface AuditRequest {
  readonly limit: number
  /** Entries older than this one. */
  readonly before: number | undefined
  readonly entityType: AuditedType | undefined
  readonly entityId: string | undefined
}

export const AuditPage = Schema.Struct({ items: Schema.Array(AuditEntry), nextCursor: Schema.NullOr(AuditCursor) })
export type AuditPage = typeof AuditPage.Type
