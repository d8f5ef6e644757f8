/** The figures of this process as Prometheus reads them. */
import { ClientRegistry } from "#clients/ClientRegistry.ts"
import { ClientType } from "#schema/ids.ts"
import { Level } from "#schema/protocol.ts"
import { Effect, Metric } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { monitorEventLoopDelay } from "node:perf_hooks"

/** Gives the text of /metrics, format 0.0.4. What is a state, not a count, is measured when it is asked for. */
export const makeMetrics = Effect.gen(function*() {
  const registry = yield* ClientRegistry
  const delay = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const histogram = monitorEventLoopDelay({ resolution: probeEvery })
      histogram.enable()
      return histogram
    }),
    (histogram) => Effect.sync(() => histogram.disable())
  )

  const measure = Effect.gen(function*() {
    const clients = yield* registry.newest
    for (const type of ClientType.literals) {
      for (const level of Level.literals) {
        const open = clients.filter((client) => client.ref.type === type && client.level === level).length
        yield* Metric.update(Metric.withAttributes(connections, { type, level }), open)
      }
    }
    for (const percentile of [50, 99, 100]) {
      const seconds = Math.max(0, delay.percentile(percentile) / nanosInSecond - probeEvery / millisInSecond)
      yield* Metric.update(Metric.withAttributes(loopDelay, { quantile: String(percentile / 100) }), seconds)
    }
    delay.reset()
    const { external, heapUsed, rss } = process.memoryUsage()
    for (const [kind, bytes] of Object.entries({ rss, heap: heapUsed, external })) {
      yield* Metric.update(Metric.withAttributes(memory, { kind }), bytes)
    }
  })

  return measure.pipe(
    Effect.andThen(
      PrometheusMetrics.format({ metricNameMapper: (name) => name.startsWith("control_") ? name : `control_${name}` })
    )
  )
})

const nanosInSecond = 1e9
const millisInSecond = 1e3

/** Milliseconds between two timers that are looked at; part of every measured delay. */
const probeEvery = 20

const connections = Metric.gauge("control_connections", { description: "Authenticated clients of this process" })
const loopDelay = Metric.gauge("control_event_loop_delay_seconds", {
  description: "How late timers were since this was last asked for"
})
const memory = Metric.gauge("control_process_memory_bytes", { description: "Memory of this process" })
