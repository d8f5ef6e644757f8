/** The log of committed changes: read it whole once, then by revision; and hear when to look again. */
import type { RowIds, Turnover } from "#network/lossDetection.ts"
import { type Change, load, type NetworkState } from "#network/NetworkState.ts"
import { Revision, Timeline } from "#schema/ids.ts"
import { ofEach, type RowCounts } from "#schema/rowKinds.ts"
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Context, Duration, Effect, Layer, Queue, Result, Schema, Scope } from "effect"
import type { SqlClient } from "effect/sql"
import { readRow } from "./changeRows.ts"
import { Secrets } from "./secrets/Secrets.ts"
import { everyRow, historyOf, latestTouches } from "./snapshotRows.ts"
import { atEdge, isMine, StoreUnavailable, transaction, writing } from "./sql.ts"
import type { UnreadableRow } from "./UnreadableRow.ts"
import { ReservedPool } from "./ReservedPool.ts"

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
  /** What tells the change at `upTo` from another one of the same number; null where the log does not have it. */
  readonly tag: Tag
  /** The same of the change that the page begins after. */
  readonly tagBefore: Tag
  readonly accepted: Accepted
  readonly leftOut: ReadonlyArray<UnreadableRow>
}

/** A change's own random mark: a restored backup undoes changes, and gives their numbers out again. */
export type Tag = string | null

/** The place in the history at which an operator has said that what was missing then may be missing. */
export type Accepted = { readonly timeline: Timeline; readonly revision: Revision } | undefined

/** Every row at one revision, and the tag of the change that made it so. */
export interface Snapshot {
  readonly state: NetworkState
  readonly tag: Tag
  readonly accepted: Accepted
  /** The rows that are there and are not in the state, since they cannot be read. */
  readonly leftOut: ReadonlyArray<UnreadableRow>
}

/** Small enough that one page is applied and sent without holding up the heartbeats behind it. */
export const pageSize = 256

const channel = "control_changes"

/** More than two probes: one may be lost to a busy moment. */
const longestSilence = Duration.seconds(12)

export class ChangeLog extends Context.Service<ChangeLog, {
  /**
   * Every row at one revision, with what the latest changes touched, from one snapshot of the database. A row that cannot be
   * read is left out and reported.
   */
  readonly snapshot: Effect.Effect<Snapshot, StoreUnavailable>
  /** The changes after a revision. */
  after(revision: Revision): Effect.Effect<Page, StoreUnavailable>
  /** The tag of one change; null where the log does not have it. */
  tagAt(revision: Revision): Effect.Effect<Tag, StoreUnavailable>
  /** Which rows of each kind were deleted after a revision, as the audit has it, which forgets nothing. */
  deletedSince(revision: Revision): Effect.Effect<RowIds, StoreUnavailable>
  /** How many rows of each kind were created and deleted after the one revision and up to the other, by the audit. */
  turnover(after: Revision, upTo: Revision): Effect.Effect<Turnover, StoreUnavailable>
  /**
   * Notes that what is missing now is meant to be, and gives the history another name: so every process reads it anew, also
   * one that had not noticed. False, and nothing is noted, unless the history is of this name.
   */
  accept(timeline: Timeline): Effect.Effect<boolean, StoreUnavailable>
  /** The history of this name is not continued: gives it another name, once, whoever notices first. */
  beginTimeline(lost: Timeline): Effect.Effect<void, StoreUnavailable>
  /**
   * Forgets the oldest changes, a thousand at most, as long as a day's and ten thousand remain; gives back how many it was.
   * One process at a time: none while another one does it.
   */
  readonly compact: Effect.Effect<number, StoreUnavailable>
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
      const sql = yield* ReservedPool
      const pg = yield* PgClient.PgClient
      const { cipher } = yield* Secrets
      const timeline = sql.literal(historyName)

      /** One damaged row must not hold up all others. */
      const readable = Effect.fnUntraced(function*(rows: ReadonlyArray<Record<string, unknown>>) {
        const changes: Array<Change> = []
        const leftOut: Array<UnreadableRow> = []
        for (const row of rows) {
          const change = readRow(row, cipher)
          if (Result.isSuccess(change)) changes.push(change.success)
          else {
            yield* Effect.logError(`left out at revision ${row.revision}: ${change.failure.message}`)
            leftOut.push(change.failure)
          }
        }
        return { changes, leftOut }
      })

      const snapshot = transaction(sql)(Effect.gen(function*() {
        yield* sql`set transaction isolation level repeatable read, read only`
        const [meta] = decodeMeta(
          yield* sql`
          select ${timeline} as timeline, m.revision::float8 as newest,
            (select min(revision)::float8 from changes) as oldest,
            (select tag from changes where revision = m.revision) as tag,
            accepted_timeline, accepted_revision::float8 as accepted_revision from control_meta m`
        )
        const rows = yield* sql.unsafe<Record<string, unknown>>(everyRow, [meta.newest])
        const touches = yield* sql.unsafe<Record<string, unknown>>(latestTouches)
        const { changes, leftOut } = yield* readable(rows)
        const state = load(meta.timeline, meta.newest, changes, historyOf(touches, meta.oldest, meta.newest))
        return { state, tag: meta.tag, accepted: acceptedIn(meta), leftOut } satisfies Snapshot
      })).pipe(Effect.withSpan("ChangeLog.snapshot"))

      const after = Effect.fn("ChangeLog.after")(function*(revision: Revision) {
        const rows = yield* atEdge(sql`
          select ${timeline} as timeline, m.revision::float8 as newest,
            (select min(revision)::float8 from changes) as oldest,
            (select tag from changes where revision = ${revision}) as tag_before,
            m.accepted_timeline, m.accepted_revision::float8 as accepted_revision,
            c.revision::float8 as revision, c.tag, c.entity, c.op, c.entity_id, c.row_image
          from control_meta m left join lateral
            (select * from changes where revision > ${revision} order by revision limit ${pageSize}) c on true
          order by c.revision`)
        const heads = decodeHeads(rows)
        const { newest, oldest, tag_before: tagBefore, timeline: name } = heads[0]
        const { changes, leftOut } = yield* readable(rows.filter((row) => row.revision !== null))
        const last = heads.at(-1)
        const end = last === undefined || last.revision === null
          ? { upTo: revision, tag: tagBefore }
          : { upTo: last.revision, tag: last.tag }
        const accepted = acceptedIn(heads[0])
        return { timeline: name, newest, oldest: oldest ?? undefined, changes, tagBefore, accepted, leftOut, ...end }
      })

      const probe = Effect.asVoid(atEdge(sql`select pg_notify(${channel}, ${probePayload})`))

      return ChangeLog.of({ snapshot, after, ...upkeep(sql), listen: listenOn(pg), probe })
    })
  )
}

/**
 * On a connection of its own, outside the pool, that is closed before the subscription is given back: on one that has died
 * silently an UNLISTEN would be waited for without end, and nobody would subscribe anew.
 */
const listenOn = (pg: PgClient.PgClient) => (wake: Effect.Effect<void>) =>
  Effect.gen(function*() {
    const subscription = yield* Effect.acquireRelease(Scope.make(), Scope.close)
    const connection = yield* PgConnection.make(pg.config)
    const notifications = yield* Scope.provide(connection.listen(channel), subscription)
    yield* wake
    while (true) {
      const notification = yield* Queue.take(notifications).pipe(Effect.timeout(longestSilence))
      if (notification.payload !== probePayload) yield* wake
    }
  }).pipe(
    Effect.scoped,
    Effect.mapError((error) => new StoreUnavailable({ reason: `LISTEN: ${error._tag}` }))
  )

/** What is asked of the log now and then, besides following it. */
function upkeep(sql: SqlClient.SqlClient) {
  const timeline = sql.literal(historyName)
  const tagAt = Effect.fn("ChangeLog.tagAt")(function*(revision: Revision) {
    const [row] = decodeTags(yield* atEdge(sql`select tag from changes where revision = ${revision}`))
    return row?.tag ?? null
  })

  const beginTimeline = Effect.fn("ChangeLog.beginTimeline")(function*(lost: Timeline) {
    yield* atEdge(sql`
      update control_meta m set timeline = gen_random_uuid()::text where ${timeline} = ${lost}`)
  })

  const deletedSince = Effect.fn("ChangeLog.deletedSince")(function*(revision: Revision) {
    const rows = decodeDeletions(
      yield* atEdge(sql`select entity, entity_id from audit where op = 'delete' and revision > ${revision}`)
    )
    const all = Map.groupBy(rows, ({ entity }) => `${entity}s`)
    return ofEach((kind) => new Set(all.get(kind)?.map(({ entity_id: id }) => id)))
  })

  /** The audit's own numbers are in the order of revisions, so what is older need not be looked at. */
  const turnover = Effect.fn("ChangeLog.turnover")(function*(from: Revision, upTo: Revision) {
    const rows = decodeTurnover(
      yield* atEdge(sql`
      select entity, count(*) filter (where op = 'create')::int as created,
        count(*) filter (where op = 'delete')::int as deleted
      from audit where revision > ${from} and revision <= ${upTo} and id > coalesce(
        (select id from audit where op = 'delete' and revision <= ${from} order by revision desc limit 1), 0)
      group by entity`)
    )
    const count = (what: "created" | "deleted"): RowCounts =>
      ofEach((kind) => rows.find(({ entity }) => `${entity}s` === kind)?.[what] ?? 0)
    return { created: count("created"), deleted: count("deleted") }
  })

  const accept = Effect.fn("ChangeLog.accept")(function*(name: Timeline) {
    const rows = yield* writing(sql)(sql`
      with m as materialized (select gen_random_uuid()::text as timeline),
        accepted as (update control_meta c
          set timeline = m.timeline, accepted_timeline = ${timeline}, accepted_revision = c.revision
          from m where ${sql.literal(historyNameOf("c"))} = ${name}
          returning c.revision, pg_notify(${channel}, ''))
      insert into audit (actor, address, entity, op, entity_id, revision)
        select current_setting('control.actor'), nullif(current_setting('control.address'), ''), 'network', 'update',
          ${name}, revision from accepted returning 1`)
    return rows.length === 1
  })

  const compact = transaction(sql)(Effect.gen(function*() {
    if (!(yield* isMine(sql, "compaction"))) return 0
    const rows = yield* sql`delete from changes where revision in (
      select revision from changes
      where revision <= (select revision from control_meta) - ${keptAtLeast} and at < now() - interval '24 hours'
      order by revision limit 1000) returning 1`
    return rows.length
  })).pipe(Effect.withSpan("ChangeLog.compact"))
  return { tagAt, deletedSince, turnover, accept, beginTimeline, compact }
}

const probePayload = "probe"

const keptAtLeast = 10_000

/**
 * The history's name: the stored one, the cluster's identity, and the cluster's own timeline, which a promoted standby and a
 * recovery to a point in time change by themselves. `row` is that of `control_meta`.
 */
const historyNameOf = (row: string) =>
  `md5(concat_ws(':', ${row}.timeline, (select system_identifier from pg_control_system()),
  substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)))::uuid::text`

/** Where the row of `control_meta` is called `m`. */
export const historyName = historyNameOf("m")

const tag = Schema.NullOr(Schema.String)
const meta = {
  timeline: Timeline,
  newest: Revision,
  oldest: Schema.NullOr(Revision),
  tag,
  accepted_timeline: Schema.NullOr(Timeline),
  accepted_revision: Schema.NullOr(Revision)
}
const decodeMeta = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct(meta)]))
const decodeTags = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ tag })))

const decodeDeletions = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ entity: Schema.String, entity_id: Schema.String }))
)
const decodeTurnover = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ entity: Schema.String, created: Schema.Int, deleted: Schema.Int }))
)

function acceptedIn(
  row: { readonly accepted_timeline: Timeline | null; readonly accepted_revision: Revision | null }
): Accepted {
  const { accepted_revision: revision, accepted_timeline: timeline } = row
  return timeline === null || revision === null ? undefined : { timeline, revision }
}

/** What every row of a page begins with; `revision` is null in the one row of a page without changes. */
const Head = Schema.Struct({
  ...meta,
  tag_before: tag,
  revision: Schema.NullOr(Revision)
})
const decodeHeads = Schema.decodeUnknownSync(Schema.NonEmptyArray(Head))
