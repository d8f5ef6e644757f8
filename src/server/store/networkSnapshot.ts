/** Reads the whole network at one snapshot of the database, page by page, with progress. */
import { defaultMtu, empty, type NetworkState } from "#network/NetworkState.ts"
import { RowLoader } from "#network/RowLoader.ts"
import { Clock, Effect, Schema, Semaphore } from "effect"
import type { SqlClient } from "effect/sql"
import type { Cipher } from "#crypto/Cipher.ts"
import { decodeReadable } from "./changeRows.ts"
import {
  acceptedIn,
  type AcceptedPosition,
  type ChangeTag,
  positionColumns,
  tagColumn,
  timelineExpression
} from "./logPosition.ts"
import { countRowsQuery, forEachRowPage, readHistory } from "./snapshotRows.ts"
import { snapshotTransaction } from "./sql.ts"
import type { UnreadableRow } from "./UnreadableRow.ts"

/** The network at one revision, and the tag of the change with that revision. */
export interface Snapshot {
  readonly state: NetworkState
  readonly tag: ChangeTag
  readonly accepted: AcceptedPosition
  /** The rows that exist but are not in `state`, because they cannot be decoded or decrypted. */
  readonly unreadable: ReadonlyArray<UnreadableRow>
}

/** Rows that a reading has read, of all rows of its snapshot. */
export interface ReadingProgress {
  readonly rows: number
  readonly total: number
}

export const describeReading = ({ rows, total }: ReadingProgress): string =>
  `reading the network: ${formatCount(rows)} of ${formatCount(total)} rows`

/** Pause between two log lines of one reading. A shorter reading logs nothing. */
const logIntervalNanos = 2_000_000_000n

/** One reading at a time, so that memory holds at most one state that is not in use yet. */
/** `mtu` is a setting that every view contains. */
export const makeSnapshotReader = (sql: SqlClient.SqlClient, cipher: Cipher, mtu = defaultMtu) => {
  let progress: ReadingProgress | undefined
  const oneAtATime = Semaphore.makeUnsafe(1)

  const read = (step: Effect.Effect<void>) =>
    Effect.gen(function*() {
      const [position] = decodePosition(yield* sql.unsafe(positionQuery))
      const [{ total }] = decodeTotal(yield* sql.unsafe(countRowsQuery))
      const report = yield* makeReport
      const loader = new RowLoader(empty(position.timeline, position.newest, mtu))
      const unreadable: Array<UnreadableRow> = []
      progress = { rows: 0, total }
      yield* forEachRowPage(sql, position.newest, (rows) =>
        Effect.gen(function*() {
          const page = yield* decodeReadable(rows, cipher, unreadable.length)
          for (const change of page.changes) loader.put(change)
          for (const row of page.unreadable) unreadable.push(row)
          progress = { rows: (progress?.rows ?? 0) + rows.length, total }
          yield* Effect.andThen(step, report.reading(progress))
        }))
      const history = yield* readHistory(sql, position.oldest, position.newest, step)
      yield* report.end(total)
      const state = { ...loader.finish(), history }
      return { state, tag: position.tag, accepted: acceptedIn(position), unreadable } satisfies Snapshot
    })

  const end = Effect.sync(() => {
    progress = undefined
  })
  return {
    readSnapshot: snapshotTransaction(sql)(read).pipe(
      Effect.ensuring(end),
      oneAtATime.withPermits(1),
      Effect.withSpan("ChangeLog.readSnapshot")
    ),
    reading: Effect.sync(() => progress)
  }
}

/** Logs the progress of a reading that takes longer than the interval. */
const makeReport = Effect.map(Clock.monotonicTimeNanos, (startedAt) => {
  let loggedAt = startedAt
  return {
    reading: Effect.fnUntraced(function*(progress: ReadingProgress) {
      const now = yield* Clock.monotonicTimeNanos
      if (now - loggedAt < logIntervalNanos) return
      loggedAt = now
      yield* Effect.logInfo(describeReading(progress))
    }),
    end: Effect.fnUntraced(function*(total: number) {
      if (loggedAt === startedAt) return
      const seconds = Number((yield* Clock.monotonicTimeNanos) - startedAt) / 1e9
      yield* Effect.logInfo(`the network is read: ${formatCount(total)} rows in ${seconds.toFixed(1)} s`)
    })
  }
})

const formatCount = (count: number): string => count.toLocaleString("en-US")

const positionQuery = `select ${timelineExpression} as timeline, m.revision::float8 as newest,
  (select min(revision)::float8 from changes) as oldest,
  (select tag from changes where revision = m.revision) as tag,
  accepted_timeline, accepted_revision::float8 as accepted_revision from control_meta m`

const decodePosition = Schema.decodeUnknownSync(
  Schema.Tuple([Schema.Struct({ ...positionColumns, tag: tagColumn })])
)
const decodeTotal = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ total: Schema.Int })]))
