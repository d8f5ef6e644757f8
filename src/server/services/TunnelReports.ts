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

/** Pending reports of one agent. Above this limit its own oldest one is dropped, so that it displaces no report of another. */
const maxPendingPerAgent = 10_000

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
      const pending = new PendingReports()
      const wake = yield* Queue.sliding<void>(1)

      const report = Effect.fn("TunnelReports.report")(function*(
        { agent, session }: Reporter,
        tunnels: ReadonlyArray<TunnelReport>
      ) {
        const at = yield* Clock.currentTimeMillis
        for (const tunnel of tunnels) pending.set({ agent, session, at, ...normalize(tunnel) })
        if (pending.size > 0) yield* Queue.offer(wake, undefined)
      })

      /** Reports that arrive during a write go into the next batch. There is no other delay. */
      const writePending = Effect.gen(function*() {
        while (pending.size > 0) {
          const batch = pending.oldest(maxBatchSize)
          const now = yield* Clock.currentTimeMillis
          yield* store.recordReports(batch.map((report) => toStoreReport(report, now)))
          for (const report of batch) pending.delete(report)
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

/** The latest report of each agent about each domain, in the order of arrival. */
class PendingReports {
  readonly #all = new Set<PendingReport>()
  readonly #byAgent = new Map<AgentId, Map<string, PendingReport>>()

  get size(): number {
    return this.#all.size
  }

  set(report: PendingReport): void {
    const ofAgent = this.#byAgent.get(report.agent) ?? new Map<string, PendingReport>()
    const previous = ofAgent.get(report.domain)
    if (previous !== undefined) this.delete(previous)
    this.#byAgent.set(report.agent, ofAgent)
    ofAgent.set(report.domain, report)
    this.#all.add(report)
    if (ofAgent.size > maxPendingPerAgent) this.#deleteFirst(ofAgent.values())
    if (this.#all.size > maxPending) this.#deleteFirst(this.#all.values())
  }

  oldest(count: number): ReadonlyArray<PendingReport> {
    return this.#all.values().take(count).toArray()
  }

  /** Deletes this report; does nothing if a later one has replaced it. */
  delete(report: PendingReport): void {
    if (!this.#all.delete(report)) return
    const ofAgent = this.#byAgent.get(report.agent)
    ofAgent?.delete(report.domain)
    if (ofAgent?.size === 0) this.#byAgent.delete(report.agent)
  }

  clear(): void {
    this.#all.clear()
    this.#byAgent.clear()
  }

  #deleteFirst(reports: Iterator<PendingReport>): void {
    const { value } = reports.next()
    if (value !== undefined) this.delete(value)
  }
}

/** Domains are stored, and therefore compared, in lower case. */
function normalize({ domain, status }: TunnelReport): TunnelReport {
  return { domain: postgresText(domain.toLowerCase()), status: postgresText(status) }
}

function toStoreReport({ at, ...report }: PendingReport, now: number): TunnelStatusReport {
  return { ...report, ageMillis: Math.max(0, now - at) }
}
