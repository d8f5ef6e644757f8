/** Buffers tunnel status reports of agents and writes them in batches, with retries. */
import type { TunnelReport } from "#schema/messagesFromAgents.ts"
import type { AgentId, SessionId } from "#schema/ids.ts"
import { postgresText } from "#store/postgresText.ts"
import { type TunnelStatusReport, TunnelStore } from "#store/TunnelStore.ts"
import { Cause, Clock, Context, Effect, Layer, Queue, Schedule } from "effect"

/** Reports in one statement. */
const maxBatchSize = 1_000

/** Pending reports. Above this limit the oldest report is dropped, because its agent will report again. */
const maxPending = 100_000

/** The agent that reports, and its session. */
export interface Reporter {
  readonly agent: AgentId
  readonly session: SessionId
}

interface PendingReport extends Reporter {
  readonly domain: string
  readonly status: string
  /** Milliseconds since 1970. */
  readonly at: number
}

export class TunnelReports extends Context.Service<TunnelReports, {
  /**
   * Queues reports; never fails and never waits. The latest report on a tunnel wins, and a report without news writes
   * nothing.
   */
  report(reporter: Reporter, tunnels: ReadonlyArray<TunnelReport>): Effect.Effect<void>
}>()("control/services/TunnelReports") {
  static readonly layer = Layer.effect(
    TunnelReports,
    Effect.gen(function*() {
      const store = yield* TunnelStore
      const pending = new Map<string, PendingReport>()
      const wake = yield* Queue.sliding<void>(1)

      const report = Effect.fn("TunnelReports.report")(function*(
        { agent, session }: Reporter,
        tunnels: ReadonlyArray<TunnelReport>
      ) {
        const at = yield* Clock.currentTimeMillis
        for (const tunnel of tunnels) enqueue(pending, { agent, session, at, ...normalize(tunnel) })
        if (pending.size > 0) yield* Queue.offer(wake, undefined)
      })

      /** Reports that arrive during a write go into the next batch. There is no other delay. */
      const writePending = Effect.gen(function*() {
        while (pending.size > 0) {
          const batch = pending.entries().take(maxBatchSize).toArray()
          const now = yield* Clock.currentTimeMillis
          yield* store.recordReports(batch.map(([, report]) => toStoreReport(report, now)))
          for (const [key, report] of batch) {
            if (pending.get(key) === report) pending.delete(key)
          }
        }
      })

      yield* Queue.take(wake).pipe(
        Effect.andThen(Effect.retry(writePending, Schedule.spaced("1 second"))),
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause) ? Effect.failCause(cause) : Effect.gen(function*() {
            yield* Effect.logError("dropped tunnel status reports; agents will report again", cause)
            pending.clear()
          })
        ),
        Effect.forever,
        Effect.forkScoped
      )

      return TunnelReports.of({ report })
    })
  )
}

function enqueue(pending: Map<string, PendingReport>, report: PendingReport): void {
  const key = `${report.domain} ${report.agent}`
  pending.delete(key)
  pending.set(key, report)
  if (pending.size > maxPending) pending.delete(pending.keys().next().value ?? key)
}

/** Domains are stored, and therefore compared, in lower case. */
function normalize({ domain, status }: TunnelReport): TunnelReport {
  return { domain: postgresText(domain.toLowerCase()), status: postgresText(status) }
}

function toStoreReport({ at, ...report }: PendingReport, now: number): TunnelStatusReport {
  return { ...report, ageMillis: Math.max(0, now - at) }
}
