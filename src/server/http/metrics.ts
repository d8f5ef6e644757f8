/** Metrics of this process in the text format of Prometheus. */
import { ClientRegistry } from "#clients/ClientRegistry.ts"
import { ClientType } from "#schema/ids.ts"
import { Level } from "#schema/protocol.ts"
import { Effect, Metric } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { monitorEventLoopDelay } from "node:perf_hooks"

/** Returns the text of /metrics, format 0.0.4. Gauges of this module are measured at each request. */
export const makeMetrics = Effect.gen(function*() {
  const registry = yield* ClientRegistry
  const delay = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const histogram = monitorEventLoopDelay({ resolution: probeIntervalMillis })
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
      const seconds = Math.max(0, delay.percentile(percentile) / nanosPerSecond - probeIntervalMillis / millisPerSecond)
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

const nanosPerSecond = 1e9
const millisPerSecond = 1e3

/** Interval of the event loop probe. It is subtracted from the measured delay. */
const probeIntervalMillis = 20

const connections = Metric.gauge("control_connections", { description: "Authenticated clients of this process" })
const loopDelay = Metric.gauge("control_event_loop_delay_seconds", {
  description: "Delay of timers since the last request of the metrics"
})
const memory = Metric.gauge("control_process_memory_bytes", { description: "Memory of this process" })
