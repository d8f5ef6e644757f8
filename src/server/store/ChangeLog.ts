/** The log of committed changes: read one snapshot, then changes by revision, woken by LISTEN/NOTIFY. */
import type { RowIds, Turnover } from "#network/lossDetection.ts"
import type { Change } from "#network/NetworkState.ts"
import { Revision, type Timeline } from "#schema/ids.ts"
import { mapRowKinds, type RowCounts } from "#schema/rowKinds.ts"
import { Settings } from "#server/Settings.ts"
import { Context, Duration, Effect, Layer, Queue, Schema, Scope } from "effect"
import { SqlClient, SqlError } from "effect/sql"
import { decodeReadable } from "./changeRows.ts"
import {
  acceptedIn,
  type AcceptedPosition,
  type ChangeTag,
  positionColumns,
  tagColumn,
  timelineExpression,
  timelineExpressionOf
} from "./logPosition.ts"
import { makeSnapshotReader, type ReadingProgress, type Snapshot } from "./networkSnapshot.ts"
import { Secrets } from "./secrets/Secrets.ts"
import {
  auditedTransaction,
  describeConnectionError,
  StoreUnavailable,
  transaction,
  tryLockTask,
  withStoreErrors
} from "./sql.ts"
import { SessionConnection } from "./SessionConnection.ts"
import type { UnreadableRow } from "./UnreadableRow.ts"
import { ReservedPool } from "./ReservedPool.ts"
import { hasWaitingWrites } from "./writeQueue.ts"

/** One page of the log, as of one moment. */
export interface ChangePage {
  readonly timeline: Timeline
  readonly newest: Revision
  /** The oldest revision in the log; undefined for an empty log. */
  readonly oldest: Revision | undefined
  /**
   * In order of revision, at most `changePageSize`, without the unreadable changes, whose rows keep their last known state.
   */
  readonly changes: ReadonlyArray<Change>
  /** The last revision that this page covers, readable or not. */
  readonly upTo: Revision
  /** The tag of the change at `upTo`; null if the log does not have that change. */
  readonly tag: ChangeTag
  /** The tag of the change that the page starts after. */
  readonly tagBefore: ChangeTag
  readonly accepted: AcceptedPosition
  readonly unreadable: ReadonlyArray<UnreadableRow>
}

/** Limits the time for which applying and sending one page delays heartbeats. */
export const changePageSize = 256

const channel = "control_changes"

/** More than two probe intervals (5 s each), because a busy process can miss one probe. */
const maxNotificationGap = Duration.seconds(12)

/** Reads, watches, accepts and compacts the change log. */
export class ChangeLog extends Context.Service<ChangeLog, {
  /**
   * Reads every row and the recent history in one snapshot of the database, in pages. Logs the first 1,000 unreadable rows.
   */
  readonly readSnapshot: Effect.Effect<Snapshot, StoreUnavailable>
  /** The progress of `readSnapshot` while it runs. */
  readonly reading: Effect.Effect<ReadingProgress | undefined>
  /** Reads one page of the changes after a revision. Logs each unreadable change. */
  readAfter(revision: Revision): Effect.Effect<ChangePage, StoreUnavailable>
  /** The tag of one change; null if the log does not have the change. */
  readTag(revision: Revision): Effect.Effect<ChangeTag, StoreUnavailable>
  /** The ids of the rows that were deleted after a revision, by kind, from the audit, which keeps them for its retention. */
  readDeletedIds(revision: Revision): Effect.Effect<RowIds, StoreUnavailable>
  /**
   * Counts the rows that were created and deleted after `after` up to `upTo`, by kind, from the audit. If entries in between
   * are beyond the retention, any number of rows may have been deleted.
   */
  countTurnover(after: Revision, upTo: Revision): Effect.Effect<Turnover, StoreUnavailable>
  /**
   * Accepts the current loss of rows as intended, and starts a new timeline, so that every process reloads the network, even
   * a process that has not detected the loss. Returns false and changes nothing if the current timeline is another one.
   */
  acceptLoss(timeline: Timeline): Effect.Effect<boolean, StoreUnavailable>
  /** Starts a new timeline after the loss of history `lost`. Does nothing if the current timeline is another one already. */
  startTimeline(lost: Timeline): Effect.Effect<void, StoreUnavailable>
  /**
   * Deletes at most 1,000 of the oldest changes; returns their number. Keeps the newest 10,000 and those of the last 24
   * hours. Returns 0 while another process compacts.
   */
  readonly compact: Effect.Effect<number, StoreUnavailable>
  /**
   * Runs `wake` after the subscription and after every notification of a change. Fails when the subscription is lost, or
   * when no notification or probe has arrived for 12 s. A LISTEN connection can die without an error.
   */
  listen(wake: Effect.Effect<void>): Effect.Effect<never, StoreUnavailable>
  /** Sends a notification to every listener. Call it every 5 s. */
  readonly sendProbe: Effect.Effect<void, StoreUnavailable>
  /** True while requests of operators wait to write, so that more changes follow at once. */
  readonly hasWaitingWrites: Effect.Effect<boolean>
}>()("control/store/ChangeLog") {
  static readonly layer = Layer.effect(
    ChangeLog,
    Effect.gen(function*() {
      const sql = yield* ReservedPool
      const session = yield* SessionConnection
      const { cipher } = yield* Secrets
      const { mtu } = yield* Settings
      const timeline = sql.literal(timelineExpression)

      const readAfter = Effect.fn("ChangeLog.readAfter")(function*(revision: Revision) {
        const rows = yield* withStoreErrors(sql`
          select ${timeline} as timeline, m.revision::float8 as newest,
            (select min(revision)::float8 from changes) as oldest,
            (select tag from changes where revision = ${revision}) as tag_before,
            m.accepted_timeline, m.accepted_revision::float8 as accepted_revision,
            c.revision::float8 as revision, c.tag, c.entity, c.op, c.entity_id, c.row_image
          from control_meta m left join lateral
            (select * from changes where revision > ${revision} order by revision limit ${changePageSize}) c on true
          order by c.revision`)
        const heads = decodeHeads(rows)
        const { newest, oldest, tag_before: tagBefore, timeline: name } = heads[0]
        const { changes, unreadable } = yield* decodeReadable(rows.filter((row) => row.revision !== null), cipher)
        const last = heads.at(-1)
        const end = last === undefined || last.revision === null
          ? { upTo: revision, tag: tagBefore }
          : { upTo: last.revision, tag: last.tag }
        const accepted = acceptedIn(heads[0])
        return { timeline: name, newest, oldest: oldest ?? undefined, changes, tagBefore, accepted, unreadable, ...end }
      })

      const sendProbe = Effect.asVoid(withStoreErrors(sql`select pg_notify(${channel}, ${probePayload})`))

      return ChangeLog.of({
        ...makeSnapshotReader(sql, cipher, mtu),
        readAfter,
        ...maintenanceQueries(sql),
        listen: listenOn(session),
        sendProbe,
        hasWaitingWrites: hasWaitingWrites(yield* SqlClient.SqlClient)
      })
    })
  )
}

/**
 * Listens on a separate connection outside the pool. The connection closes before the subscription is released, because an
 * UNLISTEN on a silently dead connection would wait without limit and prevent the next subscription.
 */
const listenOn = (session: SessionConnection["Service"]) => (wake: Effect.Effect<void>) =>
  session.isAvailable ? listenIn(session, wake) : Effect.never

const listenIn = ({ open }: SessionConnection["Service"], wake: Effect.Effect<void>) =>
  Effect.gen(function*() {
    const subscription = yield* Effect.acquireRelease(Scope.make(), Scope.close)
    const connection = yield* open
    const notifications = yield* Scope.provide(connection.listen(channel), subscription)
    yield* wake
    while (true) {
      const notification = yield* Queue.take(notifications).pipe(Effect.timeout(maxNotificationGap))
      if (notification.payload !== probePayload) yield* wake
    }
  }).pipe(
    Effect.scoped,
    Effect.mapError((error) =>
      new StoreUnavailable({
        reason: `LISTEN: ${error instanceof SqlError.SqlError ? describeConnectionError(error) : error._tag}`
      })
    )
  )

/** Queries for loss detection, timelines and compaction. */
function maintenanceQueries(sql: SqlClient.SqlClient) {
  const timeline = sql.literal(timelineExpression)
  const readTag = Effect.fn("ChangeLog.readTag")(function*(revision: Revision) {
    const [row] = decodeTags(yield* withStoreErrors(sql`select tag from changes where revision = ${revision}`))
    return row?.tag ?? null
  })

  const startTimeline = Effect.fn("ChangeLog.startTimeline")(function*(lost: Timeline) {
    yield* withStoreErrors(sql`
      update control_meta m set timeline = gen_random_uuid()::text where ${timeline} = ${lost}`)
  })

  const readDeletedIds = Effect.fn("ChangeLog.readDeletedIds")(function*(revision: Revision) {
    const rows = decodeDeletions(
      yield* withStoreErrors(sql`select entity, entity_id from audit where op = 'delete' and revision > ${revision}`)
    )
    const byKind = Map.groupBy(rows, ({ entity }) => `${entity}s`)
    return mapRowKinds((kind) => new Set(byKind.get(kind)?.map(({ entity_id: id }) => id)))
  })

  /**
   * Audit ids are in the order of revisions, so the query skips all entries before the last deletion up to `from`. Trimmed
   * entries are counted since the last accepted loss, so that a count from an earlier or the same revision is complete.
   */
  const countTurnover = Effect.fn("ChangeLog.countTurnover")(function*(from: Revision, upTo: Revision) {
    const rows = decodeTurnover(
      yield* withStoreErrors(sql`select entity, sum(created)::float8 as created, sum(deleted)::float8 as deleted from (
        select entity, (op = 'create')::int as created, (op = 'delete')::int as deleted from audit
          where revision > ${from} and revision <= ${upTo} and id > coalesce(
            (select id from audit where op = 'delete' and revision <= ${from} order by revision desc limit 1), 0)
        union all select entity, case when ${from} <= since then created else 0 end,
          case when ${from} <= since then deleted else ${anyNumber} end
          from audit_trimmed where up_to > ${from}
      ) turnover group by entity`)
    )
    const count = (operation: "created" | "deleted"): RowCounts =>
      mapRowKinds((kind) => rows.find(({ entity }) => `${entity}s` === kind)?.[operation] ?? 0)
    return { created: count("created"), deleted: count("deleted") }
  })

  const acceptLoss = Effect.fn("ChangeLog.acceptLoss")(function*(name: Timeline) {
    const rows = yield* auditedTransaction(sql)(sql`
      with m as materialized (select gen_random_uuid()::text as timeline),
        accepted as (update control_meta c
          set timeline = m.timeline, accepted_timeline = ${timeline}, accepted_revision = c.revision
          from m where ${sql.literal(timelineExpressionOf("c"))} = ${name}
          returning c.revision, pg_notify(${channel}, ''))
      insert into audit (actor, address, entity, op, entity_id, revision)
        select current_setting('control.actor'), nullif(current_setting('control.address'), ''), 'network', 'update',
          ${name}, revision from accepted returning 1`)
    return rows.length === 1
  })

  const compact = transaction(sql)(Effect.gen(function*() {
    if (!(yield* tryLockTask(sql, "compaction"))) return 0
    const rows = yield* sql`delete from changes where revision in (
      select revision from changes
      where revision <= (select revision from control_meta) - ${minRetainedChanges} and at < now() - interval '24 hours'
      order by revision limit 1000) returning 1`
    return rows.length
  })).pipe(Effect.withSpan("ChangeLog.compact"))
  return { readTag, readDeletedIds, countTurnover, acceptLoss, startTimeline, compact }
}

/** More rows than any network has. */
const anyNumber = 1e12

const probePayload = "probe"

const minRetainedChanges = 10_000

const decodeTags = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ tag: tagColumn })))

const decodeDeletions = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ entity: Schema.String, entity_id: Schema.String }))
)
const decodeTurnover = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ entity: Schema.String, created: Schema.Int, deleted: Schema.Int }))
)

/** The columns that every row of a page repeats. `revision` is null in the one row of an empty page. */
const Head = Schema.Struct({
  ...positionColumns,
  tag: tagColumn,
  tag_before: tagColumn,
  revision: Schema.NullOr(Revision)
})
const decodeHeads = Schema.decodeUnknownSync(Schema.NonEmptyArray(Head))
