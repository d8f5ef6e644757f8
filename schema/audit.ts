/** Audit log: entries, filters and pages. */
import { Schema, SchemaGetter } from "effect"
import { EntityType } from "./events.ts"
import { Revision, Timestamp } from "./ids.ts"
import { PageLimit } from "./pagination.ts"
import { noNulCharacter } from "./resources.ts"

/** Audited objects. Besides rows with revisions: accepted losses (`network`), changes of the master key, admin tokens, and requests with a wrong admin token (`refused_token`). */
const AuditedType = Schema.Literals([...EntityType.literals, "network", "token", "refused_token", "master_key"])
  .annotate({
    identifier: "AuditedType"
  })
type AuditedType = typeof AuditedType.Type

export const AuditEntry = Schema.Struct({
  id: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)).annotate({
    description: "Number of the entry. A higher number is a later change.",
    examples: [815]
  }),
  at: Timestamp.annotate({ description: "Time of the commit." }),
  actor: Schema.String.annotate({
    description:
      "Author of the change. `admin`: the token that the server was started with. `token:<id>`: an admin token. `library`: the library API. `agent:<id>` and `gateway:<id>`: a client, for example with a new WireGuard key; `address` is its own. `client`: a client in entries before 0.3.0. `control`: Control itself. `unknown`: a caller with a wrong admin token. `sql:<user>`: a direct write to the database."
  }),
  actorName: Schema.NullOr(Schema.String).annotate({
    description: "Name of the admin token at the time of the change; null for other actors."
  }),
  address: Schema.NullOr(Schema.String).annotate({
    description:
      "IP address of the caller, or `socket` for the Unix socket of the data directory; null for changes by the server itself."
  }),
  action: Schema.String.annotate({
    description: "Type of the object and `create`, `update` or `delete`, for example `tunnel.create`."
  }),
  entityType: AuditedType,
  entityId: Schema.String.annotate({
    description: "Id of the object. A certificate is identified by its domain, the network by its timeline."
  }),
  name: Schema.NullOr(Schema.String).annotate({
    description:
      "Name or domain of the object at the time of the change; for an API key, its owner. Null if not recorded."
  }),
  fields: Schema.NullOr(Schema.Array(Schema.String)).annotate({
    description: "Names of the columns that an update changed, without their values. Null if not recorded."
  }),
  revision: Schema.NullOr(Revision).annotate({
    description: "Revision of the change; null for changes that clients do not receive, for example of admin tokens."
  })
}).annotate({ identifier: "AuditEntry", description: "One change of one row. Entries are immutable." })
export type AuditEntry = typeof AuditEntry.Type

/** Id of an entry, in base64url. */
const AuditCursor: Schema.Codec<number, string> = Schema.String.annotate({
  description: "Opaque: the `nextCursor` of the previous page."
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
  limit: Schema.optionalKey(PageLimit),
  cursor: Schema.optionalKey(AuditCursor),
  entityType: Schema.optionalKey(AuditedType).annotate({ description: "Only changes of this type of object." }),
  entityId: Schema.optionalKey(Schema.String.check(Schema.isBetweenLength(1, 256), noNulCharacter)).annotate({
    description: "Only changes of the object with this id, or with this name or domain now."
  }),
  actor: Schema.optionalKey(Schema.String.check(Schema.isBetweenLength(1, 256), noNulCharacter)).annotate({
    description: "Only changes by this `actor`, for example `token:5f0c`."
  }),
  since: Schema.optionalKey(Timestamp).annotate({ description: "Only changes at or after this time." }),
  until: Schema.optionalKey(Timestamp).annotate({ description: "Only changes before this time." })
}

export interface AuditRequest {
  readonly limit: number
  /** Only entries older than the entry with this id. */
  readonly before: number | undefined
  readonly entityType: AuditedType | undefined
  readonly entityIds: ReadonlyArray<string> | undefined
  readonly actor?: string | undefined
  readonly since?: string | undefined
  readonly until?: string | undefined
}

export const AuditPage = Schema.Struct({ items: Schema.Array(AuditEntry), nextCursor: Schema.NullOr(AuditCursor) })
export type AuditPage = typeof AuditPage.Type
