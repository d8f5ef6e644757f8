/** Table of audit entries, written by database triggers inside the transaction of each change. */
import { AuditEntry, type AuditPage, type AuditRequest } from "#schema/audit.ts"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { type StoreUnavailable, withStoreErrors } from "./sql.ts"

/** Reads the audit. */
export class AuditStore extends Context.Service<AuditStore, {
  /** One page of entries, newest first. */
  list(request: AuditRequest): Effect.Effect<AuditPage, StoreUnavailable>
}>()("control/store/AuditStore") {
  static readonly layer = Layer.effect(
    AuditStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient

      const list = Effect.fn("AuditStore.list")(function*(request: AuditRequest) {
        const { actor, before, entityIds, entityType, limit, since, until } = request
        const where = sql.and([
          ...(before === undefined ? [] : [sql`id < ${before}::float8::bigint`]),
          ...(entityType === undefined ? [] : [sql`entity = ${entityType}`]),
          ...(entityIds === undefined ? [] : [sql`entity_id = any (${entityIds}::text[])`]),
          ...(actor === undefined ? [] : [sql`actor = ${actor}`]),
          ...(since === undefined ? [] : [sql`at >= ${since}::timestamptz`]),
          ...(until === undefined ? [] : [sql`at < ${until}::timestamptz`])
        ])
        const rows = yield* withStoreErrors(sql`
          select id::float8 as id, control_iso(at) as at, actor, actor_name as "actorName", address, entity || '.' || op as action,
            entity as "entityType", entity_id as "entityId", name, fields, revision::float8 as revision
          from audit where ${where} order by id desc limit ${limit + 1}`)
        // A malformed row, for example one written by hand with SQL, is skipped, because the audit is append-only.
        const items = rows.slice(0, limit).flatMap((row) => Option.toArray(decodeEntry(row)))
        const page: AuditPage = { items, nextCursor: rows.length > limit ? decodeId(rows[limit - 1]) : null }
        return page
      })

      return AuditStore.of({ list })
    })
  )
}

const decodeEntry = Schema.decodeUnknownOption(AuditEntry)

/** Reads the cursor from the raw row, because a page whose rows are all malformed still has a next page. */
const decodeId = (row: unknown): number => decodeIdRow(row).id

const decodeIdRow = Schema.decodeUnknownSync(Schema.Struct({ id: Schema.Int }))
