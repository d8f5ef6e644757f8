/** What a scenario gets: the processes that it asks for, what they use, and a place for its figures. */
import { join } from "node:path"
import { now } from "./clock.ts"
import type { Database, Network } from "./Database.ts"
import type { OpeningV1 } from "./ClientGroup.ts"
import { hottest } from "./cpuProfile.ts"
import { type Control, type Load, type Raw, type Server, startControl, startLoad, startRaw } from "./servers.ts"
import type { Size } from "./seed.ts"

/** One line of the table. */
export interface Row {
  readonly what: string
  readonly control: string
  readonly raw: string
  /** Control's figure over the bare server's, or over what the goal compares it with. */
  readonly ratio?: number | undefined
  /** The goal in words, as in docs/performance.md. */
  readonly reach?: string
  readonly met?: boolean | undefined
  /** What the processes did meanwhile, to see which one was the limit. */
  readonly use?: string
}

/** CPU in milliseconds, and what was written, during some work. */
export interface Usage {
  readonly millis: number
  readonly server: number
  readonly database: number | undefined
  readonly load: number
  readonly transactions: number
  readonly walBytes: number
}

export interface Scenario {
  readonly name: string
  readonly about: string
  readonly timeoutMillis: number
  readonly run: (bench: Bench) => Promise<void>
}

export interface Options {
  readonly quick: boolean
  /** A directory for CPU profiles of Control; undefined takes none. */
  readonly profiles: string | undefined
}

export class Bench {
  readonly rows: Array<Row> = []
  readonly #database: Database
  readonly #scenario: string
  readonly #options: Options
  readonly #ends: Array<() => Promise<void>> = []
  #load: Load | undefined

  constructor(database: Database, scenario: string, options: Options) {
    this.#database = database
    this.#scenario = scenario
    this.#options = options
  }

  get quick(): boolean {
    return this.#options.quick
  }

  /** A number of repetitions: fewer in a quick run. */
  times(full: number, quick: number): number {
    return this.#options.quick ? quick : full
  }

  row(row: Row): void {
    this.rows.push(row)
    this.note(
      `${row.what}: ${row.control} | raw ${row.raw}${row.ratio === undefined ? "" : ` | ${row.ratio.toFixed(2)} x`}`
    )
  }

  note(text: string): void {
    process.stderr.write(`  ${text}\n`)
  }

  async network(size: Size): Promise<Network> {
    const network = await this.#database.newNetwork(size)
    this.#ends.push(() => network.close())
    return network
  }

  /** Given what stopped, it is that one again. */
  async control(network: Network, stopped?: Control): Promise<Control> {
    const control = await startControl(network, stopped?.dataDir)
    this.#ends.push(() => control.stop())
    return control
  }

  /** Stops the database and starts it again after a while; how long it gave no answer, in milliseconds. */
  restartDatabase(awayMillis: number): Promise<number> {
    return this.#database.restart(awayMillis)
  }

  async raw(): Promise<Raw> {
    const raw = await startRaw()
    this.#ends.push(() => raw.stop())
    return raw
  }

  get load(): Load {
    if (this.#load !== undefined) return this.#load
    const load = startLoad()
    this.#load = load
    this.#ends.push(async () => void load.process.kill("SIGTERM"))
    return load
  }

  /** Connects clients, each with its key, and insists that all of them get in. */
  async join(
    name: string,
    server: Server,
    type: "agent" | "gateway",
    apiKeys: ReadonlyArray<string>,
    window = 100,
    v1?: OpeningV1
  ) {
    const timeoutMillis = 120_000
    const opening = { name, port: server.port, type, apiKeys, window, timeoutMillis, ...(v1 && { v1 }) }
    const opened = await this.load.call("open", opening, timeoutMillis + 10_000)
    if (opened.ready < apiKeys.length) {
      throw new Error(
        `${opened.ready} of ${apiKeys.length} ${type}s got in; the others: ${JSON.stringify(opened.failures)}`
      )
    }
    return opened
  }

  /** Runs some work, and tells what it took. */
  async measure<A>(server: Server, work: () => Promise<A>, profile?: string): Promise<readonly [A, Usage]> {
    const file = this.#options.profiles === undefined || profile === undefined
      ? undefined
      : join(this.#options.profiles, `${this.#scenario}-${profile}.cpuprofile`)
    if (file !== undefined) await server.probe.call("startProfile", undefined as never)
    const before = await this.#snapshot(server)
    const result = await work()
    const after = await this.#snapshot(server)
    if (file !== undefined) {
      await server.probe.call("stopProfile", file as never)
      this.note(`${file}: ${await hottest(file)}`)
    }
    const usage: Usage = {
      millis: after.at - before.at,
      server: after.server - before.server,
      database: after.database === undefined || before.database === undefined
        ? undefined
        : after.database - before.database,
      load: after.load - before.load,
      transactions: after.written.transactions - before.written.transactions,
      walBytes: after.written.walBytes - before.written.walBytes
    }
    return [result, usage]
  }

  /** Ends what the scenario has started, last first. */
  async end(): Promise<void> {
    for (const end of this.#ends.toReversed()) await end().catch((error: unknown) => this.note(String(error)))
  }

  async #snapshot(server: Server) {
    const written = await this.#database.written()
    const load = await this.load.call("cpu", undefined as never)
    const cpu = await server.probe.call("cpu", undefined as never)
    return { at: now(), written, load, server: cpu, database: this.#database.cpu() }
  }
}

/** `server 98 %, database 3 %, load 60 %` of one core each. */
export const inWords = ({ database, load, millis, server }: Usage): string => {
  const share = (cpu: number | undefined) => cpu === undefined ? "?" : `${Math.round(100 * cpu / millis)} %`
  return `server ${share(server)}, database ${share(database)}, load ${share(load)}`
}
