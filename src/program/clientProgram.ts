/** Runs the client part of a program: its keys, its connection to Control, its reports, metrics and end. */
import packageJson from "#package.json" with { type: "json" }
import { type Clock, systemClock } from "#processes/clock.ts"
import type { ClientEvent, Stopped } from "#sdk/Client.ts"
import { readOrCreateWireguardKey, type WireguardKeys } from "#sdk/wireguardKeyFile.ts"
import { join } from "node:path"
import type { Log } from "./log.ts"
import { logEvent, stopProblem } from "./logEvents.ts"
import { type MachineChange, watchMachine } from "./machineWatch.ts"
import { type Metric, startMetricsServer } from "./metricsServer.ts"
import { ReportTimer } from "./ReportTimer.ts"
import { notifyService } from "./serviceNotify.ts"

/** Changes of status during this time share one report. */
const reportGatherMillis = 100

/** Interval of reports about the peers. */
const peersIntervalMillis = 15_000

/** Values of options that every client program has. */
interface CommonValues {
  readonly url: string
  readonly apiKey: string
  readonly retryAuth: boolean
  readonly once: boolean
  readonly metrics: { readonly host: string; readonly port: number } | undefined
}

/** How a program was started. */
export interface Start<Values extends CommonValues = CommonValues> {
  readonly options: Values
  readonly stateDir: string
  readonly log: Log
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Aborted by the first signal. */
  readonly stop: AbortSignal
  readonly clock?: Clock
}

/** Options of `startAgent` and `startGateway` that are the same for both. */
export interface ClientOptions {
  readonly url: string
  readonly apiKey: string
  readonly retryAuth: boolean
  readonly stateFile: string
  readonly clientVersion: string
  readonly wireguardPublicKey?: string
  readonly onEvent: (event: ClientEvent) => void
}

interface RunningClient {
  readonly stopped: Promise<Stopped>
  readonly close: () => Promise<Stopped>
}

/** What a program does in addition to its connection to Control. */
export interface ClientWork {
  /** Starts the client of the SDK. */
  readonly start: (options: ClientOptions) => RunningClient
  /** Sends a report; called soon after `changed` and every 15 s. Must not reject. */
  readonly report: () => void
  readonly onMachineChange: (change: MachineChange) => void
  readonly metrics: () => Promise<ReadonlyArray<Metric>>
  /** Lets running work end. `isWanted` is false for `--once` and after an error, when nothing is worth the wait. */
  readonly drain: (isWanted: boolean) => Promise<void>
  readonly close: () => Promise<void>
}

export class ClientProgram {
  readonly clock: Clock
  readonly #start: Start
  readonly #clientType: "agent" | "gateway"
  #isReady = false

  constructor(clientType: "agent" | "gateway", start: Start) {
    this.#clientType = clientType
    this.#start = start
    this.clock = start.clock ?? systemClock
  }

  /** This machine's WireGuard keys. Without a writable directory, Control makes the keys, so that a read-only disk suffices. */
  async ownKeys(): Promise<WireguardKeys | undefined> {
    const { log, stateDir } = this.#start
    try {
      return await readOrCreateWireguardKey(join(stateDir, "wireguard.key"))
    } catch (error) {
      log.warn(
        `cannot use the state directory ${stateDir}: ${error instanceof Error ? error.message : String(error)}; set ` +
          "--state-dir. Control makes the WireGuard key, and nothing is served after a restart while Control is away"
      )
      return undefined
    }
  }

  /** Runs until a signal, until Control ends the session for good, or with `--once` until all is applied. Resolves with the exit code. */
  async run(
    keys: WireguardKeys | undefined,
    work: ClientWork,
    onReportTimer: (timer: ReportTimer) => void
  ): Promise<number> {
    const { environment, log, options, stateDir, stop } = this.#start
    const reports = new ReportTimer(this.clock, reportGatherMillis, peersIntervalMillis, work.report)
    onReportTimer(reports)
    const once = Promise.withResolvers<void>()
    const client = work.start({
      url: options.url,
      apiKey: options.apiKey,
      retryAuth: options.retryAuth,
      stateFile: join(stateDir, "view.json"),
      clientVersion: `control-${this.#clientType}/${packageJson.version}`,
      ...keys === undefined ? {} : { wireguardPublicKey: keys.publicKey },
      onEvent: (event) => {
        logEvent(log, event)
        if (event.type === "applied") {
          this.#applied()
          // Control drops reports about rows that are newer than the applied revision.
          reports.changed()
        }
        if (isUpToDate(event)) once.resolve()
      }
    })
    const unwatch = watchMachine(this.clock, (change) => {
      log.info(
        `${change === "woke" ? "the machine was suspended" : "the machine's addresses changed"}; renewing handshakes`
      )
      work.onMachineChange(change)
    })
    const closeMetrics = await this.#startMetrics(work)
    const aborted = new Promise<void>((resolve) => stop.addEventListener("abort", () => resolve(), { once: true }))
    const stopped = await Promise.race([client.stopped, aborted, ...options.once ? [once.promise] : []])
    notifyService(environment, "STOPPING=1")
    await work.drain(stopped === undefined && !options.once)
    unwatch()
    reports.close()
    await client.close()
    await work.close()
    await closeMetrics()
    if (stopped === undefined) return 0
    log.error(stopProblem(stopped))
    return 1
  }

  #applied(): void {
    if (this.#isReady) return
    this.#isReady = true
    notifyService(this.#start.environment, "READY=1")
  }

  async #startMetrics(work: ClientWork): Promise<() => Promise<void>> {
    const { log, options } = this.#start
    if (options.metrics === undefined) return async () => {}
    const notReady = () => this.#isReady ? undefined : "no view is applied yet"
    const server = await startMetricsServer({ ...options.metrics, metrics: work.metrics, notReady })
    log.info("serving metrics", { host: options.metrics.host, port: server.port })
    return server.close
  }
}

/** Whether everything that Control has sent is applied. */
const isUpToDate = (event: ClientEvent): boolean =>
  event.type === "ready" ? event.resumed : event.type === "applied" && event.change.source !== "disk"
