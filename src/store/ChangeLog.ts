/** The log of committed changes: read it whole once, then by revision; and hear when to look again. */
import { type Change, load, type NetworkState } from "#network/NetworkState.ts"
import { Revision, Timeline } from "#schema/ids.ts"
import { PgClient } from "@effect/sql-pg"
import { Context, Duration, Effect, Layer, Queue, Result, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { readRow } from "./changeRows.ts"
import { Secrets } from "./Secrets.ts"
import { atEdge, StoreUnavailable, transaction } from "./sql.ts"

/** What the log says at one moment: the newest revision of which history, and the changes that the reader lacks. */
export interface Page {
  readonly timeline: Timeline
  readonly newest: Revision
  /** The oldest revision that the log still has; undefined when it is empty. */
  readonly oldest: Revision | undefined
  /** In order of revision, at most `pageSize`. A change that cannot be read is left out and reported: its row stays as it was. */
  readonly changes: ReadonlyArray<Change>
  /** The last revision that this page covers, readable or not. */
  readonly upTo: Revision
}

/** Small enough that one page is applied and sent without holding up the heartbeats behind it. */
export const pageSize = 256

const channel = "control_changes"

/** More than two probes: one may be lost to a busy moment. */
const longestSilence = Duration.seconds(12)

export class ChangeLog extends Context.Service<ChangeLog, {
  /** Every row at one revision, from one snapshot of the database. A row that cannot be read is left out and reported. */
  readonly snapshot: Effect.Effect<NetworkState, StoreUnavailable>
  /** The changes after a revision. */
  after(revision: Revision): Effect.Effect<Page, StoreUnavailable>
  /**
   * Runs `wake` after every subscription and every notification of a change; fails when the subscription is lost, or when
   * not even a probe was heard for 12 seconds: a LISTEN connection can die without a word.
   */
  listen(wake: Effect.Effect<void>): Effect.Effect<never, StoreUnavailable>
  /** Makes every listener hear something; to be sent every 5 seconds. */
  readonly probe: Effect.Effect<void, StoreUnavailable>
}>()("control/store/ChangeLog") {
  static readonly layer = Layer.effect(
    ChangeLog,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const pg = yield* PgClient.PgClient
      const { cipher } = yield* Secrets

      /** One damaged row must not hold up all others. */
      const readable = Effect.fnUntraced(function*(rows: ReadonlyArray<Record<string, unknown>>) {
        const changes: Array<Change> = []
        for (const row of rows) {
          const change = readRow(row, cipher)
          if (Result.isSuccess(change)) changes.push(change.success)
          else yield* Effect.logError(`left out at revision ${row.revision}: ${change.failure.message}`)
        }
        return changes
      })

      const snapshot = transaction(sql)(Effect.gen(function*() {
        yield* sql`set transaction isolation level repeatable read, read only`
        const [meta] = decodeMeta(yield* sql`select timeline, revision::float8 as newest from control_meta`)
        const rows = yield* sql.unsafe<Record<string, unknown>>(everyRow, [meta.newest])
        return load(meta.timeline, meta.newest, yield* readable(rows))
      })).pipe(Effect.withSpan("ChangeLog.snapshot"))

      const after = Effect.fn("ChangeLog.after")(function*(revision: Revision) {
        const rows = yield* atEdge(sql`
          select m.timeline, m.revision::float8 as newest, (select min(revision)::float8 from changes) as oldest,
            c.revision::float8 as revision, c.entity, c.op, c.entity_id, c.row_image
          from control_meta m left join lateral
            (select * from changes where revision > ${revision} order by revision limit ${pageSize}) c on true
          order by c.revision`)
        const heads = decodeHeads(rows)
        const { newest, oldest, timeline } = heads[0]
        const changes = yield* readable(rows.filter((row) => row.revision !== null))
        return { timeline, newest, oldest: oldest ?? undefined, changes, upTo: heads.at(-1)?.revision ?? revision }
      })

      const listen = (wake: Effect.Effect<void>) =>
        Effect.gen(function*() {
          const notifications = yield* pg.listen(channel)
          yield* wake
          while (true) {
            const notification = yield* Queue.take(notifications).pipe(Effect.timeout(longestSilence))
            if (notification.payload !== probePayload) yield* wake
          }
        }).pipe(
          Effect.scoped,
          Effect.mapError((error) => new StoreUnavailable({ reason: `LISTEN: ${error._tag}` }))
        )

      const probe = atEdge(pg.notify(channel, probePayload))

      return ChangeLog.of({ snapshot, after, listen, probe })
    })
  )
}

const probePayload = "probe"

const meta = { timeline: Timeline, newest: Revision }
const decodeMeta = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct(meta)]))

/** What every row of a page begins with; `revision` is null in the one row of a page without changes. */
const Head = Schema.Struct({ ...meta, oldest: Schema.NullOr(Revision), revision: Schema.NullOr(Revision) })
const decodeHeads = Schema.decodeUnknownSync(Schema.NonEmptyArray(Head))

const everyRow = [
  ["agent", "agents", "id"],
  ["gateway", "gateways", "id"],
  ["tunnel", "tunnels", "id"],
  ["certificate", "certificates", "domain"],
  ["key", "api_keys", "id"]
].map(([entity, table, key]) =>
  `select $1::float8 as revision, '${entity}' as entity, 'put' as op, ${key} as entity_id,
    control_row_image(to_jsonb(${table})) as row_image from ${table}`
).join(" union all ")
