/** Interface of a scenario to the run: starts processes, measures CPU and writes, collects result rows. */
import { join } from "node:path"
import { now } from "./timing.ts"
import type { Database, Network } from "./BenchDatabase.ts"
import type { ControlV1Options } from "./ClientGroup.ts"
import { summarizeProfile } from "./cpuProfile.ts"
import {
  type BareServer,
  type Control,
  type LoadGenerator,
  type Server,
  startBareServer,
  startControl,
  startLoadGenerator
} from "./servers.ts"
import type { NetworkSize } from "./seedNetwork.ts"

/** One line of the table. */
export interface Row {
  readonly label: string
  readonly control: string
  readonly bare: string
  /** Control's value divided by the bare server's, or by the value that the goal compares it with. */
  readonly ratio?: number | undefined
  /** Goal as text, as in docs/performance.md. */
  readonly goal?: string
  readonly isMet?: boolean | undefined
  /** CPU usage of the processes, which shows the bottleneck, or another remark. */
  readonly usage?: string
}

/** CPU time in milliseconds and database writes during one measurement. */
export interface Usage {
  readonly millis: number
  readonly serverMillis: number
  readonly databaseMillis: number | undefined
  readonly loadMillis: number
  readonly transactions: number
  readonly walBytes: number
}

export interface Scenario {
  readonly name: string
  readonly description: string
  readonly timeoutMillis: number
  readonly run: (bench: BenchRun) => Promise<void>
}

export interface BenchOptions {
  readonly quick: boolean
  /** Directory for CPU profiles of Control. Undefined disables profiling. */
  readonly profileDir: string | undefined
}

export class BenchRun {
  readonly rows: Array<Row> = []
  readonly #database: Database
  readonly #scenario: string
  readonly #options: BenchOptions
  readonly #finalizers: Array<() => Promise<void>> = []
  #loadGenerator: LoadGenerator | undefined

  constructor(database: Database, scenario: string, options: BenchOptions) {
    this.#database = database
    this.#scenario = scenario
    this.#options = options
  }

  get quick(): boolean {
    return this.#options.quick
  }

  /** Returns `quick` repetitions in a quick run, otherwise `full`. */
  repetitions(full: number, quick: number): number {
    return this.#options.quick ? quick : full
  }

  addRow(row: Row): void {
    this.rows.push(row)
    const bare = row.bare === "" ? "" : ` | bare ${row.bare}`
    const ratio = row.ratio === undefined ? "" : ` | ${row.ratio.toFixed(2)} x`
    this.log(`${row.label}: ${row.control}${bare}${ratio}`)
  }

  log(text: string): void {
    process.stderr.write(`  ${text}\n`)
  }

  async createNetwork(size: NetworkSize): Promise<Network> {
    const network = await this.#database.createNetwork(size)
    this.#finalizers.push(() => network.close())
    return network
  }

  /** Starts Control. With `stopped`, reuses the data directory of that stopped process. */
  async startControl(network: Network, stopped?: Control): Promise<Control> {
    const control = await startControl(network, stopped?.dataDir)
    this.#finalizers.push(() => control.stop())
    return control
  }

  /** Stops the database for `downMillis`. Returns the milliseconds until the database answered again. */
  restartDatabase(downMillis: number): Promise<number> {
    return this.#database.restart(downMillis)
  }

  async startBareServer(): Promise<BareServer> {
    const bareServer = await startBareServer()
    this.#finalizers.push(() => bareServer.stop())
    return bareServer
  }

  get loadGenerator(): LoadGenerator {
    if (this.#loadGenerator !== undefined) return this.#loadGenerator
    const loadGenerator = startLoadGenerator()
    this.#loadGenerator = loadGenerator
    this.#finalizers.push(async () => void loadGenerator.process.kill("SIGTERM"))
    return loadGenerator
  }

  /** Connects one client per API key. Rejects unless every client receives its config or resumes. */
  async connectClients(
    name: string,
    server: Server,
    type: "agent" | "gateway",
    apiKeys: ReadonlyArray<string>,
    maxPendingUpgrades = 100,
    controlV1?: ControlV1Options
  ) {
    const timeoutMillis = 120_000
    const options = {
      name,
      port: server.port,
      type,
      apiKeys,
      maxPendingUpgrades,
      timeoutMillis,
      ...(controlV1 && { controlV1 })
    }
    const result = await this.loadGenerator.call("connect", options, timeoutMillis + 10_000)
    if (result.readyClients < apiKeys.length) {
      throw new Error(
        `${result.readyClients} of ${apiKeys.length} ${type}s connected; failures of the others: ${
          JSON.stringify(result.failures)
        }`
      )
    }
    return result
  }

  /** Runs `work` and returns its result with the CPU time and database writes in between. */
  async measure<A>(server: Server, work: () => Promise<A>, profile?: string): Promise<readonly [A, Usage]> {
    const file = this.#options.profileDir === undefined || profile === undefined
      ? undefined
      : join(this.#options.profileDir, `${this.#scenario}-${profile}.cpuprofile`)
    if (file !== undefined) await server.probe.call("startProfile", undefined as never)
    const before = await this.#readUsage(server)
    const result = await work()
    const after = await this.#readUsage(server)
    if (file !== undefined) {
      await server.probe.call("stopProfile", file as never)
      this.log(`${file}: ${await summarizeProfile(file)}`)
    }
    const usage: Usage = {
      millis: after.at - before.at,
      serverMillis: after.server - before.server,
      databaseMillis: after.database === undefined || before.database === undefined
        ? undefined
        : after.database - before.database,
      loadMillis: after.load - before.load,
      transactions: after.written.transactions - before.written.transactions,
      walBytes: after.written.walBytes - before.written.walBytes
    }
    return [result, usage]
  }

  /** Stops everything that the scenario has started, in reverse order. */
  async close(): Promise<void> {
    for (const cleanUp of this.#finalizers.toReversed()) {
      await cleanUp().catch((error: unknown) => this.log(String(error)))
    }
  }

  async #readUsage(server: Server) {
    const written = await this.#database.writeCounters()
    const load = await this.loadGenerator.call("cpu", undefined as never)
    const cpu = await server.probe.call("cpu", undefined as never)
    return { at: now(), written, load, server: cpu, database: this.#database.cpuMillis() }
  }
}

/** Formats shares of one core, for example `server 98 %, database 3 %, load 60 %`. */
export const formatUsage = (
  { databaseMillis: database, loadMillis: load, millis, serverMillis: server }: Usage
): string => {
  const share = (cpu: number | undefined) => cpu === undefined ? "?" : `${Math.round(100 * cpu / millis)} %`
  return `server ${share(server)}, database ${share(database)}, load ${share(load)}`
}
