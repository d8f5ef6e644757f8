/** Status of each tunnel at this gateway, from probes through it and from the visitors' connections. */
import type { Clock, Timer } from "#processes/clock.ts"
import { type Route, type RouteProblem, routeProblem } from "./Route.ts"

export interface TunnelServing {
  readonly tunnelId: string
  readonly status: "starting" | "serving" | RouteProblem | "port-in-use"
  /** Reason for operators; undefined if there is nothing to say. */
  readonly detail: string | undefined
}

export interface ServingOptions {
  readonly clock: Clock
  readonly onChange: () => void
  /** A remark about a tunnel that is served, for example that it has no certificate. */
  readonly remark: (route: Route) => string | undefined
  /** The time of the last handshake with the agent, in milliseconds since 1970. UDP has no other sign of life. */
  readonly lastHandshakeAt: (route: Route) => Promise<number | undefined>
}

/** Interval of probes of a tunnel that is served. */
const probeIntervalMillis = 30_000

/** Delays between the probes of a tunnel that is not served: the first one, doubled up to the longest. */
const minRetryMillis = 500
const maxRetryMillis = 10_000

/** Probes at the same time, so that a large network does not open all connections at once. */
const maxProbes = 64

/** An agent whose device accepts before it dials resets the connection within this time if the target is away. */
const resetGraceMillis = 200

const probeTimeoutMillis = 5_000

/** A session without a handshake for this time has ended (WireGuard, REJECT_AFTER_TIME). */
const sessionMillis = 180_000

interface Entry {
  readonly route: Route
  outcome: "starting" | "ok" | RouteProblem
  retryMillis: number
  probedAt: number
  timer: Timer | undefined
}

export class ServingStatus {
  readonly #options: ServingOptions
  readonly #entries = new Map<string, Entry>()
  readonly #waiting = new Set<Entry>()
  #probes = 0
  /** Reasons by tunnel. */
  #portProblems: ReadonlyMap<string, string> = new Map()

  constructor(options: ServingOptions) {
    this.#options = options
  }

  /** Starts probes of new routes and ends those of removed ones. */
  update(added: ReadonlyArray<Route>, removed: ReadonlyArray<Route>): void {
    for (const { tunnelId } of removed) {
      const entry = this.#entries.get(tunnelId)
      entry?.timer?.cancel()
      if (entry !== undefined) this.#waiting.delete(entry)
      this.#entries.delete(tunnelId)
    }
    for (const route of added) {
      const entry: Entry = {
        route,
        outcome: "starting",
        retryMillis: minRetryMillis,
        probedAt: -Infinity,
        timer: undefined
      }
      this.#entries.set(route.tunnelId, entry)
      this.#enqueue(entry)
    }
  }

  setPortProblems(problems: ReadonlyMap<string, string>): void {
    this.#portProblems = problems
    this.#options.onChange()
  }

  /** Records the outcome of a visitor's connection. */
  record(tunnelId: string, outcome: "ok" | RouteProblem): void {
    const entry = this.#entries.get(tunnelId)
    if (entry === undefined || entry.outcome === outcome) return
    if (outcome === "ok") {
      this.#set(entry, outcome)
      return this.#schedule(entry)
    }
    // A probe decides, because a visitor can make a service reset its connection.
    if (this.#options.clock.monotonic() - entry.probedAt >= minRetryMillis) this.#enqueue(entry)
  }

  /** Probes everything that is not served, for example because the machine's network has changed. */
  probeNow(): void {
    for (const entry of this.#entries.values()) {
      if (entry.outcome === "ok") continue
      entry.retryMillis = minRetryMillis
      this.#enqueue(entry)
    }
  }

  statuses(): ReadonlyArray<TunnelServing> {
    return Array.from(this.#entries.values(), ({ outcome, route }) => {
      const portProblem = this.#portProblems.get(route.tunnelId)
      if (portProblem !== undefined) return { tunnelId: route.tunnelId, status: "port-in-use", detail: portProblem }
      const status = outcome === "ok" ? "serving" : outcome
      return {
        tunnelId: route.tunnelId,
        status,
        detail: outcome === "ok" ? this.#options.remark(route) : details[outcome]
      }
    })
  }

  close(): void {
    for (const { timer } of this.#entries.values()) timer?.cancel()
    this.#entries.clear()
    this.#waiting.clear()
  }

  #enqueue(entry: Entry): void {
    entry.timer?.cancel()
    this.#waiting.add(entry)
    this.#startProbes()
  }

  #startProbes(): void {
    for (const entry of this.#waiting) {
      if (this.#probes >= maxProbes) return
      this.#waiting.delete(entry)
      this.#probes += 1
      entry.probedAt = this.#options.clock.monotonic()
      this.#probe(entry.route, (outcome) => {
        this.#probes -= 1
        if (this.#entries.get(entry.route.tunnelId) === entry) {
          this.#set(entry, outcome)
          this.#schedule(entry)
        }
        this.#startProbes()
      })
    }
  }

  #probe(route: Route, done: (outcome: "ok" | RouteProblem) => void): void {
    const { clock, lastHandshakeAt } = this.#options
    if (route.protocol === "udp") {
      const judge = (at: number | undefined) =>
        done(at !== undefined && clock.wall() - at < sessionMillis ? "ok" : "agent-unreachable")
      return void lastHandshakeAt(route).then(judge, () => judge(undefined))
    }
    const socket = route.connect()
    let timer = clock.after(probeTimeoutMillis, () => finish("agent-unreachable"))
    let isDone = false
    const finish = (outcome: "ok" | RouteProblem) => {
      if (isDone) return
      isDone = true
      timer.cancel()
      socket.destroy()
      done(outcome)
    }
    socket.on("error", (error: NodeJS.ErrnoException) => finish(routeProblem(error)))
    socket.once("close", () => finish("target-unreachable"))
    socket.once("connect", () => {
      timer.cancel()
      timer = clock.after(resetGraceMillis, () => finish("ok"))
    })
    // A service may speak first; the probe reads until it ends.
    socket.resume()
  }

  #set(entry: Entry, outcome: "ok" | RouteProblem): void {
    if (entry.outcome === outcome) return
    entry.outcome = outcome
    this.#options.onChange()
  }

  #schedule(entry: Entry): void {
    entry.timer?.cancel()
    const isServed = entry.outcome === "ok"
    const delay = isServed ? probeIntervalMillis : entry.retryMillis
    entry.retryMillis = isServed ? minRetryMillis : Math.min(maxRetryMillis, entry.retryMillis * 2)
    entry.timer = this.#options.clock.after(delay, () => this.#enqueue(entry))
  }
}

const details: Readonly<Record<"starting" | RouteProblem, string | undefined>> = {
  starting: undefined,
  "agent-unreachable": "the agent does not answer through WireGuard",
  "target-unreachable": "the agent cannot reach the target"
}
