/** HTTP server of a program's metrics: `/metrics` in Prometheus' text format, `/healthz` and `/readyz`. */
import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

/** One metric: its name, type, help and values by labels. */
export interface Metric {
  readonly name: string
  readonly type: "counter" | "gauge"
  readonly help: string
  readonly values: ReadonlyArray<{ readonly labels?: Readonly<Record<string, string>>; readonly value: number }>
}

export interface MetricsServerOptions {
  readonly host: string
  readonly port: number
  readonly metrics: () => ReadonlyArray<Metric> | Promise<ReadonlyArray<Metric>>
  /** A sentence about what is missing; undefined while the program is ready. */
  readonly notReady: () => string | undefined
}

export interface MetricsServer {
  readonly port: number
  readonly close: () => Promise<void>
}

/** Rejects with the system's error, such as `EADDRINUSE`. */
export const startMetricsServer = async (options: MetricsServerOptions): Promise<MetricsServer> => {
  const { host, metrics, notReady, port } = options
  const server = createServer((request, response) => {
    const answer = (status: number, text: string, type = "text/plain; charset=utf-8") => {
      response.writeHead(status, { "content-type": type, "cache-control": "no-store" }).end(text)
    }
    if (request.method !== "GET" && request.method !== "HEAD") return answer(405, "only GET is allowed\n")
    switch (request.url?.split("?")[0]) {
      case "/metrics":
        return void Promise.resolve(metrics()).then(
          (all) => answer(200, metricsText(all), "text/plain; version=0.0.4; charset=utf-8"),
          () => answer(500, "the metrics cannot be read\n")
        )
      case "/healthz":
        return answer(200, "ok\n")
      case "/readyz": {
        const reason = notReady()
        return answer(reason === undefined ? 200 : 503, `${reason ?? "ok"}\n`)
      }
      default:
        return answer(404, "there are /metrics, /healthz and /readyz\n")
    }
  })
  server.listen(port, host)
  await once(server, "listening")
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      server.close()
      server.closeAllConnections()
    }
  }
}

/** https://prometheus.io/docs/instrumenting/exposition_formats/ */
const metricsText = (metrics: ReadonlyArray<Metric>): string =>
  metrics.map(({ help, name, type, values }) =>
    `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${
      values.map(({ labels = {}, value }) => `${name}${labelsText(labels)} ${value}\n`).join("")
    }`
  ).join("")

function labelsText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) =>
    `${name}="${value.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\"", "\\\"")}"`
  )
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`
}
