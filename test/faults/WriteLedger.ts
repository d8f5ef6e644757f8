/** Writers, and the book that they keep: what was acknowledged, and what nobody can say. Every write here is one revision. */
import { now, sleep } from "#bench/support/clock.ts"
import type { Random } from "#simulation/Random.ts"
import type { Stage } from "./TestCluster.ts"

/** `undefined`: no tunnel has this domain. */
type Target = string | undefined

/** What a domain's tunnel may be: as it was acknowledged last, or as one write after it has made it whose answer never came. */
interface Entry {
  readonly possible: ReadonlyArray<Target>
  readonly id: string | undefined
}

export type Outcome = "acked" | "unknown" | "refused"

const answerPatienceMillis = 12_000

export class Ledger {
  acked = 0
  unknown = 0
  refused = 0
  /** When each target was acknowledged. */
  readonly ackedAt = new Map<string, number>()
  readonly startRevision: number
  readonly book = new Map<string, Entry>()
  readonly statuses = new Map<string, number>()
  readonly #stage: Stage
  readonly #random: Random
  readonly #writers: Array<Promise<void>> = []
  #isOver = false
  #made = 0

  private constructor(stage: Stage, random: Random, startRevision: number) {
    this.#stage = stage
    this.#random = random
    this.startRevision = startRevision
  }

  static async begin(stage: Stage, random: Random): Promise<Ledger> {
    return new Ledger(stage, random, await stage.revision())
  }

  /** Each with tunnels of its own, so that writes of one row follow each other. */
  async startWriters(http = 3, sql = 1): Promise<void> {
    const tunnels = await this.#stage.postgres.query("select id, domain, target from tunnels order by domain")
    const writers = http + sql
    for (let index = 0; index < writers; index += 1) {
      const own = tunnels.filter((_, at) => at % writers === index).slice(0, 40)
      for (const { domain, id, target } of own) {
        this.book.set(String(domain), { possible: [String(target)], id: String(id) })
      }
      this.#writers.push(this.#write(own.map(({ domain }) => String(domain)), index >= http, index))
    }
  }

  async stopWriters(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#writers)
  }

  /** Notes a write that something else than the writers has made. */
  note(outcome: Outcome, revisions = 1): void {
    if (outcome === "acked") this.acked += revisions
    else if (outcome === "unknown") this.unknown += revisions
    else this.refused += 1
  }

  /** From the answer to the last client's being told, in milliseconds; of those told while this crowd was there. */
  latencies(since = 0): ReadonlyArray<number> {
    return [...this.ackedAt].flatMap(([target, at]) => {
      const told = this.#stage.crowd.receipts.get(target)
      return told === undefined || at < since ? [] : [Math.max(0, told - at)]
    })
  }

  get describe(): string {
    return `${this.acked} acked, ${this.unknown} unknown, ${this.refused} refused`
  }

  async #write(domains: Array<string>, bySql: boolean, index: number): Promise<void> {
    while (!this.#isOver) {
      const chance = this.#random.next()
      if (bySql || chance < 0.85) {
        const domain = this.#random.pick(domains)
        if (domain === undefined) return
        if (await this.#change(domain, bySql) === "unknown") {
          // A write without an answer may still be on its way: nothing is to overtake it.
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
    const entry = this.book.get(domain)
    if (entry?.id === undefined) return "refused"
    const outcome = bySql
      ? await this.#stage.postgres.query("update tunnels set target = $1 where domain = $2", [target, domain])
        .then(() => "acked" as const, () => "unknown" as const)
      : (await this.#ask("PATCH", `/api/tunnels/${entry.id}`, { target })).outcome
    this.#enter(domain, target, outcome, entry.id)
    return outcome
  }

  async #create(domains: Array<string>, index: number): Promise<void> {
    const domain = `w${index}-${this.#made += 1}-${this.startRevision}.example.net`
    const target = this.#newTarget()
    const agentId = this.#random.pick(this.#stage.agentIds)
    const { id, outcome } = await this.#ask("POST", "/api/tunnels", { agentId, domain, target })
    this.#enter(domain, target, outcome, id)
    if (outcome === "acked") domains.push(domain)
  }

  async #remove(domains: Array<string>): Promise<void> {
    const domain = domains.find((name) => name.endsWith(".example.net"))
    const id = domain === undefined ? undefined : this.book.get(domain)?.id
    if (domain === undefined || id === undefined) return
    domains.splice(domains.indexOf(domain), 1)
    this.#enter(domain, undefined, (await this.#ask("DELETE", `/api/tunnels/${id}`)).outcome, id)
  }

  #newTarget(): string {
    return `h${this.startRevision}-${this.#made += 1}:8080`
  }

  #enter(domain: string, target: Target, outcome: Outcome, id: string | undefined): void {
    this.note(outcome)
    const before = this.book.get(domain)?.possible ?? [undefined]
    if (outcome === "acked") {
      this.book.set(domain, { possible: [target], id })
      if (target !== undefined) this.ackedAt.set(target, now())
    } else if (outcome === "unknown") this.book.set(domain, { possible: [...before, target], id })
  }

  async #ask(
    method: string,
    path: string,
    body?: object
  ): Promise<{ outcome: Outcome; id: string | undefined }> {
    const node = this.#random.pick(this.#stage.nodes.filter(({ isAlive }) => isAlive))
    if (node === undefined) {
      await sleep(200)
      return { outcome: "refused", id: undefined }
    }
    try {
      const response = await fetch(`http://127.0.0.1:${node.apiPort}${path}`, {
        method,
        headers: { "authorization": `Bearer ${node.token}`, "content-type": "application/json" },
        signal: AbortSignal.timeout(answerPatienceMillis),
        ...(body === undefined ? {} : { body: JSON.stringify(body) })
      })
      const text = await response.text()
      this.#count(`${response.status}`)
      if (response.ok) {
        const id: unknown = text === "" ? undefined : JSON.parse(text).id
        return { outcome: "acked", id: typeof id === "string" ? id : undefined }
      }
      return { outcome: response.status < 500 ? "refused" : "unknown", id: undefined }
    } catch (error) {
      const cause = error instanceof Error ? error.cause : undefined
      const code = cause instanceof Error && "code" in cause ? String(cause.code) : ""
      this.#count(code || "no answer")
      // Nobody was there to take the request.
      return { outcome: code === "ECONNREFUSED" ? "refused" : "unknown", id: undefined }
    }
  }

  #count(status: string): void {
    this.statuses.set(status, (this.statuses.get(status) ?? 0) + 1)
  }
}
