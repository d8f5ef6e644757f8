/** What agents say of their tunnels, on its way to the rows: taken at once, written together, kept while the database is away. */
import type { TunnelReport } from "#schema/agentMessages.ts"
import type { AgentId } from "#schema/ids.ts"
import { postgresText } from "#store/postgresText.ts"
import { type Report, TunnelStore } from "#store/TunnelStore.ts"
import { Cause, Clock, Context, Effect, Layer, Queue, Schedule } from "effect"

/** As many as one statement should carry. */
const mostTogether = 1_000

/** Over this the report that has waited longest is dropped: its agent will say it again. */
const mostWaiting = 100_000

interface Said {
  readonly agent: AgentId
  readonly domain: string
  readonly status: string
  /** Milliseconds since 1970. */
  readonly at: number
}

export class TunnelReports extends Context.Service<TunnelReports, {
  /** Never fails and never waits. Of several reports on one tunnel the latest counts; one that says nothing new writes nothing. */
  report(agent: AgentId, tunnels: ReadonlyArray<TunnelReport>): Effect.Effect<void>
}>()("control/services/TunnelReports") {
  static readonly layer = Layer.effect(
    TunnelReports,
    Effect.gen(function*() {
      const store = yield* TunnelStore
      const waiting = new Map<string, Said>()
      const wake = yield* Queue.sliding<void>(1)

      const report = Effect.fn("TunnelReports.report")(function*(agent: AgentId, tunnels: ReadonlyArray<TunnelReport>) {
        const at = yield* Clock.currentTimeMillis
        for (const tunnel of tunnels) keep(waiting, { agent, at, ...asText(tunnel) })
        if (waiting.size > 0) yield* Queue.offer(wake, undefined)
      })

      /** What comes in while a batch is on its way waits for the next one; there is no other delay. */
      const writeWaiting = Effect.gen(function*() {
        while (waiting.size > 0) {
          const batch = waiting.entries().take(mostTogether).toArray()
          const now = yield* Clock.currentTimeMillis
          yield* store.report(batch.map(([, said]) => reportOf(said, now)))
          for (const [name, said] of batch) {
            if (waiting.get(name) === said) waiting.delete(name)
          }
        }
      })

      yield* Queue.take(wake).pipe(
        Effect.andThen(Effect.retry(writeWaiting, Schedule.spaced("1 second"))),
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause) ? Effect.failCause(cause) : Effect.gen(function*() {
            yield* Effect.logError("reports of tunnels were dropped", cause)
            waiting.clear()
          })
        ),
        Effect.forever,
        Effect.forkScoped
      )

      return TunnelReports.of({ report })
    })
  )
}

function keep(waiting: Map<string, Said>, said: Said): void {
  const name = `${said.domain} ${said.agent}`
  waiting.delete(name)
  waiting.set(name, said)
  if (waiting.size > mostWaiting) waiting.delete(waiting.keys().next().value ?? name)
}

/** Domains are compared in lower case, as they are stored. */
function asText({ domain, status }: TunnelReport): TunnelReport {
  return { domain: postgresText(domain.toLowerCase()), status: postgresText(status) }
}

function reportOf({ agent, at, domain, status }: Said, now: number): Report {
  return { agent, domain, status, ageMillis: Math.max(0, now - at) }
}
