/** Concurrent writers, and a ledger of acknowledged writes and writes without an answer. */
import { now, sleep } from "#bench/support/timing.ts"
import type { Random } from "#simulation/Random.ts"
import type { TestCluster } from "./TestCluster.ts"

/** Target of a domain's tunnel; undefined when no tunnel has the domain. */
type Target = string | undefined

/** Targets that a domain's tunnel may have: the last acknowledged one, or one from a later write without an answer. */
interface Entry {
  readonly possibleTargets: ReadonlyArray<Target>
  readonly id: string | undefined
}

export type Outcome = "acknowledged" | "unknown" | "rejected"

const responseTimeoutMillis = 12_000

export class WriteLedger {
  acknowledged = 0
  unknown = 0
  rejected = 0
  /** Time of the acknowledgement of each target. */
  readonly acknowledgedAt = new Map<string, number>()
  readonly startRevision: number
  readonly expectedTargets = new Map<string, Entry>()
  readonly statuses = new Map<string, number>()
  readonly #cluster: TestCluster
  readonly #random: Random
  readonly #writers: Array<Promise<void>> = []
  #isOver = false
  #made = 0

  private constructor(cluster: TestCluster, random: Random, startRevision: number) {
    this.#cluster = cluster
    this.#random = random
    this.startRevision = startRevision
  }

  static async open(cluster: TestCluster, random: Random): Promise<WriteLedger> {
    return new WriteLedger(cluster, random, await cluster.revision())
  }

  /**
   * Starts writers. Each writer has its own tunnels, so that the writes of one row are sequential. Every write creates one
   * revision.
   */
  async startWriters(http = 3, sql = 1): Promise<void> {
    const tunnels = await this.#cluster.postgres.query("select id, domain, target from tunnels order by domain")
    const writers = http + sql
    for (let index = 0; index < writers; index += 1) {
      const own = tunnels.filter((_, at) => at % writers === index).slice(0, 40)
      for (const { domain, id, target } of own) {
        this.expectedTargets.set(String(domain), { possibleTargets: [String(target)], id: String(id) })
      }
      this.#writers.push(this.#write(own.map(({ domain }) => String(domain)), index >= http, index))
    }
  }

  async stopWriters(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#writers)
  }

  /** Records writes that the fault itself made. */
  record(outcome: Outcome, revisions = 1): void {
    if (outcome === "acknowledged") this.acknowledged += revisions
    else if (outcome === "unknown") this.unknown += revisions
    else this.rejected += 1
  }

  /** Milliseconds from each acknowledgement until the last client received the change, for writes since `since`. */
  latencies(since = 0): ReadonlyArray<number> {
    return [...this.acknowledgedAt].flatMap(([target, at]) => {
      const received = this.#cluster.fleet.receivedAt.get(target)
      return received === undefined || at < since ? [] : [Math.max(0, received - at)]
    })
  }

  get describe(): string {
    return `${this.acknowledged} acknowledged, ${this.unknown} unknown, ${this.rejected} rejected`
  }

  async #write(domains: Array<string>, bySql: boolean, index: number): Promise<void> {
    while (!this.#isOver) {
      const chance = this.#random.next()
      if (bySql || chance < 0.85) {
        const domain = this.#random.pick(domains)
        if (domain === undefined) return
        if (await this.#change(domain, bySql) === "unknown") {
          // A write without an answer may still be in flight, so no later write may change the same row.
          domains.splice(domains.indexOf(domain), 1)
          await sleep(200)
        }
      } else if (chance < 0.95) await this.#create(domains, index)
      else await this.#remove(domains)
      await sleep(this.#random.between(10, 50))
    }
  }

  async #change(domain: string, bySql: boolean): Promise<Outcome> {
    const target = this.#newTarget()
    const entry = this.expectedTargets.get(domain)
    if (entry?.id === undefined) return "rejected"
    const outcome = bySql
      ? await this.#cluster.postgres.query("update tunnels set target = $1 where domain = $2", [target, domain])
        .then(() => "acknowledged" as const, () => "unknown" as const)
      : (await this.#ask("PATCH", `/api/tunnels/${entry.id}`, { target })).outcome
    this.#enter(domain, target, outcome, entry.id)
    return outcome
  }

  async #create(domains: Array<string>, index: number): Promise<void> {
    const domain = `w${index}-${this.#made += 1}-${this.startRevision}.example.net`
    const target = this.#newTarget()
    const agentId = this.#random.pick(this.#cluster.agentIds)
    const { id, outcome } = await this.#ask("POST", "/api/tunnels", { agentId, domain, target })
    this.#enter(domain, target, outcome, id)
    if (outcome === "acknowledged") domains.push(domain)
  }

  async #remove(domains: Array<string>): Promise<void> {
    const domain = domains.find((name) => name.endsWith(".example.net"))
    const id = domain === undefined ? undefined : this.expectedTargets.get(domain)?.id
    if (domain === undefined || id === undefined) return
    domains.splice(domains.indexOf(domain), 1)
    this.#enter(domain, undefined, (await this.#ask("DELETE", `/api/tunnels/${id}`)).outcome, id)
  }

  #newTarget(): string {
    return `h${this.startRevision}-${this.#made += 1}:8080`
  }

  #enter(domain: string, target: Target, outcome: Outcome, id: string | undefined): void {
    this.record(outcome)
    const before = this.expectedTargets.get(domain)?.possibleTargets ?? [undefined]
    if (outcome === "acknowledged") {
      this.expectedTargets.set(domain, { possibleTargets: [target], id })
      if (target !== undefined) this.acknowledgedAt.set(target, now())
    } else if (outcome === "unknown") this.expectedTargets.set(domain, { possibleTargets: [...before, target], id })
  }

  async #ask(
    method: string,
    path: string,
    body?: object
  ): Promise<{ outcome: Outcome; id: string | undefined }> {
    const node = this.#random.pick(this.#cluster.nodes.filter(({ isAlive }) => isAlive))
    if (node === undefined) {
      await sleep(200)
      return { outcome: "rejected", id: undefined }
    }
    try {
      const response = await fetch(`http://127.0.0.1:${node.apiPort}${path}`, {
        method,
        headers: { "authorization": `Bearer ${node.token}`, "content-type": "application/json" },
        signal: AbortSignal.timeout(responseTimeoutMillis),
        ...(body === undefined ? {} : { body: JSON.stringify(body) })
      })
      const text = await response.text()
      this.#count(`${response.status}`)
      if (response.ok) {
        const id: unknown = text === "" ? undefined : JSON.parse(text).id
        return { outcome: "acknowledged", id: typeof id === "string" ? id : undefined }
      }
      return { outcome: response.status < 500 ? "rejected" : "unknown", id: undefined }
    } catch (error) {
      const cause = error instanceof Error ? error.cause : undefined
      const code = cause instanceof Error && "code" in cause ? String(cause.code) : ""
      this.#count(code || "no answer")
      // No process accepted the request.
      return { outcome: code === "ECONNREFUSED" ? "rejected" : "unknown", id: undefined }
    }
  }

  #count(status: string): void {
    this.statuses.set(status, (this.statuses.get(status) ?? 0) + 1)
  }
}
