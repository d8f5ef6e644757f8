/** Table of audit entries, written by database triggers inside the transaction of each change. */
import { AuditEntry, type AuditPage, type AuditRequest } from "#schema/audit.ts"
import { Context, Duration, Effect, Layer, Option, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { type StoreUnavailable, transaction, tryLockTask, withStoreErrors } from "./sql.ts"

/** Reads the audit, and deletes what is older than the retention. */
export class AuditStore extends Context.Service<AuditStore, {
  /** One page of entries, newest first. */
  list(request: AuditRequest): Effect.Effect<AuditPage, StoreUnavailable>
  /** Deletes up to 1,000 of the oldest entries if they are older than the retention. Returns their number. */
  trim(retention: Duration.Duration): Effect.Effect<number, StoreUnavailable>
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

      return AuditStore.of({ list, trim: trimIn(sql) })
    })
  )
}

/** Adds the deleted entries to `audit_trimmed`, because the loss guard counts the rows that were created and deleted. */
const trimIn = (sql: SqlClient.SqlClient) =>
  Effect.fn("AuditStore.trim")((retention: Duration.Duration) =>
    transaction(sql)(Effect.gen(function*() {
      if (!(yield* tryLockTask(sql, "audit retention"))) return 0
      const age = `${Math.floor(Duration.toSeconds(retention))} seconds`
      yield* sql`select set_config('control.audit_retention', ${age}, true)`
      const [{ removed }] = decodeRemoved(
        yield* sql`with oldest as materialized (select id, at from audit order by id limit 1000),
            since as (select coalesce(accepted_revision, 0) as revision from control_meta),
            removed as (delete from audit using oldest
              where audit.id = oldest.id and oldest.at < now() - ${age}::interval
              returning audit.entity, audit.op, audit.revision),
            counted as (insert into audit_trimmed as t (entity, since, up_to, created, deleted)
              select entity, since.revision, max(removed.revision),
                count(*) filter (where op = 'create' and removed.revision > since.revision),
                count(*) filter (where op = 'delete' and removed.revision > since.revision)
              from removed, since group by entity, since.revision
              on conflict (entity) do update set since = excluded.since, up_to = greatest(t.up_to, excluded.up_to),
                created = excluded.created + case when t.since = excluded.since then t.created else 0 end,
                deleted = excluded.deleted + case when t.since = excluded.since then t.deleted else 0 end)
          select count(*)::int as removed from removed`
      )
      return removed
    }))
  )

const decodeRemoved = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ removed: Schema.Int })]))

const decodeEntry = Schema.decodeUnknownOption(AuditEntry)

/** Reads the cursor from the raw row, because a page whose rows are all malformed still has a next page. */
const decodeId = (row: unknown): number => decodeIdRow(row).id

const decodeIdRow = Schema.decodeUnknownSync(Schema.Struct({ id: Schema.Int }))
