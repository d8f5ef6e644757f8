/** Opens and closes the public ports of tcp and udp tunnels. */
import type { Route } from "#gateway/Route.ts"
import type { Clock, Timer } from "#processes/clock.ts"

/** An open public port. */
export interface PublicPort {
  /** The tunnel of new connections and datagrams. */
  readonly setRoute: (route: Route) => void
  readonly close: () => void
}

export interface PublicPortsOptions {
  readonly clock: Clock
  readonly retryMillis: number
  /** Opens the listenPort of the route at every address, or rejects with the reason. */
  readonly open: (route: Route) => Promise<PublicPort>
  /** Called when a retry has changed the problems. */
  readonly onPortProblems: (problems: ReadonlyMap<string, string>) => void
}

export class PublicPorts {
  readonly #options: PublicPortsOptions
  readonly #open = new Map<string, PublicPort>()
  #wanted: ReadonlyMap<string, Route> = new Map()
  /** Reasons by tunnelId. */
  #problems: ReadonlyMap<string, string> = new Map()
  #retryTimer: Timer | undefined
  #isClosed = false
  /** Changes run one after the other. */
  #running: Promise<unknown> = Promise.resolve()

  constructor(options: PublicPortsOptions) {
    this.#options = options
  }

  get problems(): ReadonlyMap<string, string> {
    return this.#problems
  }

  get openPorts(): number {
    return this.#open.size
  }

  /** Opens and closes ports until exactly those of the routes are open. Returns the reasons of ports that stay closed. */
  async set(routes: ReadonlyArray<Route>): Promise<ReadonlyMap<string, string>> {
    const doubled = new Map<string, string>()
    const wanted = new Map<string, Route>()
    for (const route of routes) {
      const key = keyOf(route)
      if (key === undefined) continue
      const other = wanted.get(key)
      if (other === undefined) wanted.set(key, route)
      else doubled.set(route.tunnelId, `port ${route.listenPort} belongs to tunnel ${other.tunnelId}`)
    }
    this.#wanted = wanted
    const run = this.#running.then(() => this.#apply(wanted, doubled))
    this.#running = run
    await run
    return this.#problems
  }

  close(): void {
    this.#isClosed = true
    this.#wanted = new Map()
    this.#retryTimer?.cancel()
    for (const port of this.#open.values()) port.close()
    this.#open.clear()
  }

  async #apply(wanted: ReadonlyMap<string, Route>, doubled: ReadonlyMap<string, string>): Promise<void> {
    // A newer call has replaced the routes.
    if (wanted !== this.#wanted || this.#isClosed) return
    this.#retryTimer?.cancel()
    for (const [key, port] of this.#open) {
      const route = wanted.get(key)
      if (route !== undefined) port.setRoute(route)
      else {
        port.close()
        this.#open.delete(key)
      }
    }
    const problems = new Map(doubled)
    const missing = [...wanted].filter(([key]) => !this.#open.has(key))
    await Promise.all(missing.map(async ([key, route]) => {
      const problem = await this.#openOne(key, route)
      if (problem !== undefined) problems.set(route.tunnelId, problem)
    }))
    this.#problems = problems
    if (problems.size > doubled.size && !this.#isClosed) this.#retryLater(wanted, doubled)
  }

  /** Returns the reason if the port cannot be opened. */
  async #openOne(key: string, route: Route): Promise<string | undefined> {
    try {
      const port = await this.#options.open(route)
      if (this.#isClosed) port.close()
      else this.#open.set(key, port)
      return undefined
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  }

  #retryLater(wanted: ReadonlyMap<string, Route>, doubled: ReadonlyMap<string, string>): void {
    const { clock, retryMillis } = this.#options
    this.#retryTimer = clock.after(retryMillis, () => {
      this.#running = this.#running.then(() => this.#retry(wanted, doubled))
    })
  }

  async #retry(wanted: ReadonlyMap<string, Route>, doubled: ReadonlyMap<string, string>): Promise<void> {
    const before = this.#problems
    await this.#apply(wanted, doubled)
    if (!isEqual(before, this.#problems)) this.#options.onPortProblems(this.#problems)
  }
}

/** Transport and port; undefined for a route without a public port. */
function keyOf({ listenPort, protocol }: Route): string | undefined {
  return listenPort === null || (protocol !== "tcp" && protocol !== "udp") ? undefined : `${protocol} ${listenPort}`
}

function isEqual(left: ReadonlyMap<string, string>, right: ReadonlyMap<string, string>): boolean {
  return left.size === right.size && [...left].every(([key, value]) => right.get(key) === value)
}
