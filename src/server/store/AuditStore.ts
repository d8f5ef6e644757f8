/** Who changed what. The rows are written by the trigger that numbers the changes, in the writers' own transactions. */
import { AuditEntry, type AuditPage, type AuditRequest } from "#schema/audit.ts"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { atEdge, type StoreUnavailable } from "./sql.ts"

export class AuditStore extends Context.Service<AuditStore, {
  /** The newest entries first. */
  list(request: AuditRequest): Effect.Effect<AuditPage, StoreUnavailable>
}>()("control/store/AuditStore") {
  static readonly layer = Layer.effect(
    AuditStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient

      const list = Effect.fn("AuditStore.list")(function*(request: AuditRequest) {
        const { actor, before, entityId, entityType, limit, since, until } = request
        const where = sql.and([
          ...(before === undefined ? [] : [sql`id < ${before}::float8::bigint`]),
          ...(entityType === undefined ? [] : [sql`entity = ${entityType}`]),
          ...(entityId === undefined ? [] : [sql`entity_id = ${entityId}`]),
          ...(actor === undefined ? [] : [sql`actor = ${actor}`]),
          ...(since === undefined ? [] : [sql`at >= ${since}::timestamptz`]),
          ...(until === undefined ? [] : [sql`at < ${until}::timestamptz`])
        ])
        const rows = yield* atEdge(sql`
          select id::float8 as id, control_iso(at) as at, actor, actor_name as "actorName", address, entity || '.' || op as action,
            entity as "entityType", entity_id as "entityId", name, fields, revision::float8 as revision
          from audit where ${where} order by id desc limit ${limit + 1}`)
        // A row that somebody wrote oddly by SQL is left out: it can neither be shown nor mended.
        const items = rows.slice(0, limit).flatMap((row) => Option.toArray(decodeEntry(row)))
        const page: AuditPage = { items, nextCursor: rows.length > limit ? decodeId(rows[limit - 1]) : null }
        return page
      })

      return AuditStore.of({ list })
    })
  )
}

const decodeEntry = Schema.decodeUnknownOption(AuditEntry)

/** A page that has no item left has a next one all the same. */
const decodeId = (row: unknown): number => decodePlace(row).id

const decodePlace = Schema.decodeUnknownSync(Schema.Struct({ id: Schema.Int }))
