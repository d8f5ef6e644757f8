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

      const list = Effect.fn("AuditStore.list")(function*({ before, entityId, entityType, limit }: AuditRequest) {
        const where = sql.and([
          ...(before === undefined ? [] : [sql`id < ${before}::float8::bigint`]),
          ...(entityType === undefined ? [] : [sql`entity = ${entityType}`]),
          ...(entityId === undefined ? [] : [sql`entity_id = ${entityId}`])
        ])
        const rows = yield* atEdge(sql`
          select id::float8 as id, control_iso(at) as at, actor, address, entity || '.' || op as action,
            entity as "entityType", entity_id as "entityId", revision::float8 as revision
          from audit where ${where} order by id desc limit ${limit + 1}`)
        // A row that somebody wrote oddly by SQL is left out: it can neither be shown nor mended.
        const items = rows.slice(0, limit).flatMap((row) => Option.toArray(decodeEntry(row)))
        const page: AuditPage = { items, nextCursor: rows.length > limit ? items.at(-1)?.id ?? null : null }
        return page
      })

      return AuditStore.of({ list })
    })
  )
}

const decodeEntry = Schema.decodeUnknownOption(AuditEntry)
