/** A bounded queue of audited writes, so that a wait for other writes never counts as silence of the database. */
import { Duration, Effect, Option, Semaphore } from "effect"
import type { SqlClient } from "effect/sql"
import { StoreUnavailable } from "./StoreUnavailable.ts"

/** Fewer than the connections of a pool, so that reading never waits for writes. */
export const maxRunningWrites = 6
export const maxWaitingWrites = 1_024
const maxWait = Duration.seconds(20)

interface WriteQueue {
  readonly permits: Semaphore.Semaphore
  waiting: number
}

/** One queue for each pool. */
const queues = new WeakMap<SqlClient.SqlClient, WriteQueue>()

const queueOf = (sql: SqlClient.SqlClient): WriteQueue => {
  const queue = queues.get(sql) ?? { permits: Semaphore.makeUnsafe(maxRunningWrites), waiting: 0 }
  queues.set(sql, queue)
  return queue
}

/** True while at least one write waits for others. */
export const hasWaitingWrites = (sql: SqlClient.SqlClient): Effect.Effect<boolean> =>
  Effect.sync(() => queueOf(sql).waiting > 0)

/** Runs a write when fewer than 6 others run. Fails at once if 1,024 wait, and after a wait of 20 s. */
export const queueWrite = (sql: SqlClient.SqlClient) => <A, E, R>(write: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.serviceOption(sql.transactionService), (outer) => {
    // A write inside a transaction has the connection already.
    if (Option.isSome(outer)) return write
    const queue = queueOf(sql)
    if (queue.waiting >= maxWaitingWrites)
      return Effect.fail(new StoreUnavailable({ reason: `${maxWaitingWrites} writes are waiting; try again later` }))
    return inTurn(queue, write)
  })

const inTurn = <A, E, R>(queue: WriteQueue, write: Effect.Effect<A, E, R>) => {
  let isWaiting = true
  queue.waiting++
  const start = Effect.sync(() => {
    if (isWaiting) queue.waiting--
    isWaiting = false
  })
  const failIfWaiting = Effect.suspend(() =>
    isWaiting
      ? Effect.fail(new StoreUnavailable({ reason: "other writes took 20 s; try again later" }))
      : Effect.never
  )
  return queue.permits.withPermit(Effect.andThen(start, write)).pipe(
    Effect.raceFirst(Effect.andThen(Effect.sleep(maxWait), failIfWaiting)),
    Effect.ensuring(start)
  )
}
