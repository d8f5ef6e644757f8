/** What a scenario gets: the processes that it asks for, what they use, and a place for its figures. */
import { join } from "node:path"
import { now } from "./clock.ts"
import type { Database, Network } from "./Database.ts"
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
import type { NetworkSize } from "./seed.ts"

/** One line of the table. */
export interface Row {
  readonly label: string
  readonly control: string
  readonly bare: string
  /** Control's figure over the bare server's, or over what the goal compares it with. */
  readonly ratio?: number | undefined
  /** The goal in words, as in docs/performance.md. */
  readonly goal?: string
  readonly isMet?: boolean | undefined
  /** What the processes did meanwhile, to see which one was the limit. */
  readonly usage?: string
}

/** CPU in milliseconds, and what was written, during some work. */
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
  readonly run: (bench: Bench) => Promise<void>
}

export interface BenchOptions {
  readonly quick: boolean
  /** A directory for CPU profiles of Control; undefined takes none. */
  readonly profileDir: string | undefined
}

export class Bench {
  readonly rows: Array<Row> = []
  readonly #database: Database
  readonly #scenario: string
  readonly #options: BenchOptions
  readonly #finalizers: Array<() => Promise<void>> = []
  #load: LoadGenerator | undefined

  constructor(database: Database, scenario: string, options: BenchOptions) {
    this.#database = database
    this.#scenario = scenario
    this.#options = options
  }

  get quick(): boolean {
    return this.#options.quick
  }

  /** A number of repetitions: fewer in a quick run. */
  repetitions(full: number, quick: number): number {
    return this.#options.quick ? quick : full
  }

  addRow(addRow: Row): void {
    this.rows.push(addRow)
    this.log(
      `${addRow.label}: ${addRow.control} | raw ${addRow.bare}${
        addRow.ratio === undefined ? "" : ` | ${addRow.ratio.toFixed(2)} x`
      }`
    )
  }

  log(text: string): void {
    process.stderr.write(`  ${text}\n`)
  }

  async createNetwork(size: NetworkSize): Promise<Network> {
    const network = await this.#database.createNetwork(size)
    this.#finalizers.push(() => network.close())
    return network
  }

  /** Given what stopped, it is that one again. */
  async startControl(network: Network, stopped?: Control): Promise<Control> {
    const control = await startControl(network, stopped?.dataDir)
    this.#finalizers.push(() => control.stop())
    return control
  }

  /** Stops the database and starts it again after a while; how long it gave no answer, in milliseconds. */
  restartDatabase(downMillis: number): Promise<number> {
    return this.#database.restart(downMillis)
  }

  async startBareServer(): Promise<BareServer> {
    const raw = await startBareServer()
    this.#finalizers.push(() => raw.stop())
    return raw
  }

  get loadGenerator(): LoadGenerator {
    if (this.#load !== undefined) return this.#load
    const load = startLoadGenerator()
    this.#load = load
    this.#finalizers.push(async () => void load.process.kill("SIGTERM"))
    return load
  }

  /** Connects clients, each with its key, and insists that all of them get in. */
  async connectClients(
    name: string,
    server: Server,
    type: "agent" | "gateway",
    apiKeys: ReadonlyArray<string>,
    window = 100,
    v1?: ControlV1Options
  ) {
    const timeoutMillis = 120_000
    const opening = {
      name,
      port: server.port,
      type,
      apiKeys,
      maxPendingUpgrades: window,
      timeoutMillis,
      ...(v1 && { controlV1: v1 })
    }
    const opened = await this.loadGenerator.call("connect", opening, timeoutMillis + 10_000)
    if (opened.readyClients < apiKeys.length) {
      throw new Error(
        `${opened.readyClients} of ${apiKeys.length} ${type}s got in; the others: ${JSON.stringify(opened.failures)}`
      )
    }
    return opened
  }

  /** Runs some work, and tells what it took. */
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

  /** Ends what the scenario has started, last first. */
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

/** `server 98 %, database 3 %, load 60 %` of one core each. */
export const formatUsage = (
  { databaseMillis: database, loadMillis: load, millis, serverMillis: server }: Usage
): string => {
  const share = (cpu: number | undefined) => cpu === undefined ? "?" : `${Math.round(100 * cpu / millis)} %`
  return `server ${share(server)}, database ${share(database)}, load ${share(load)}`
}
