/** Numbered changes of tunnels, and what the clients of a group saw of them. */
import type { Bench } from "./Bench.ts"
import { now, sleep } from "./clock.ts"
import type { Network } from "./Database.ts"
import type { Awaited } from "./ClientGroup.ts"
import type { Control, Raw } from "./servers.ts"

const timeoutMillis = 60_000

export interface Seen extends Awaited {
  /** From the moment when the change was asked for to its commit. */
  readonly commitMillis: number
}

/** The changes of one server, numbered without gaps so that clients see what is lost, doubled or out of order. */
export class Changes {
  readonly #bench: Bench
  readonly #group: string
  #last: number

  /** Two of one network begin at numbers apart, so that the one's change is none of the other's: five digits each. */
  constructor(bench: Bench, group: string, after = 10_000) {
    this.#bench = bench
    this.#group = group
    this.#last = after
  }

  /** Many changes, each of another tunnel, in one transaction of another program; latencies count from the commit's answer. */
  bySql(network: Network, count: number): Promise<Seen> {
    return this.#watch(count, (first) =>
      network.query(`do $$ begin
        for i in 0..${count - 1} loop
          update tunnels set target = 'localhost:' || (${first} + i)
            where domain = 'app-' || lpad((i % ${network.tunnels.length})::text, 5, '0') || '.example.com';
        end loop;
      end $$`), "after")
  }

  /** Changes of one tunnel after the other at an even rate, each in a transaction of its own; latencies say nothing here. */
  byStream(network: Network, perSecond: number, seconds: number): Promise<Seen> {
    const count = perSecond * seconds
    return this.#watch(count, async (first) => {
      const startedAt = now()
      for (let index = 0; index < count; index += 1) {
        await sleep(Math.max(0, startedAt + index * 1_000 / perSecond - now()))
        const { id = "" } = network.tunnels[index % network.tunnels.length] ?? {}
        await network.query("update tunnels set target = 'localhost:' || $1::int where id = $2", [first + index, id])
      }
    }, "before")
  }

  /** One change by the HTTP API; latencies count from the request. */
  byHttp(control: Control, network: Network): Promise<Seen> {
    const tunnel = network.tunnels[this.#last % network.tunnels.length]
    return this.#watch(
      1,
      (sequence) => control.request("PATCH", `/api/tunnels/${tunnel?.id}`, { target: `localhost:${sequence}` }),
      "before"
    )
  }

  /**
   * A new tunnel by the HTTP API; `commitMillis` is how long its operator waited. With `wait` the answer must say that so many
   * clients have applied it.
   */
  byCreate(control: Control, network: Network, wait?: { readonly clients: number }): Promise<Seen> {
    const agentId = network.agentIds[this.#last % network.agentIds.length]
    return this.#watch(
      1,
      async (sequence) => {
        const answer = await control.request("POST", `/api/tunnels${wait === undefined ? "" : "?wait=applied"}`, {
          agentId,
          domain: `new-${sequence}.example.com`,
          target: `localhost:${sequence}`
        })
        if (wait !== undefined) checkDelivery(answer, wait.clients)
      },
      "before"
    )
  }

  /** The same to the bare server, by its command channel. */
  byCommand({ raw }: Raw, count: number): Promise<Seen> {
    return this.#watch(count, (sequence) => raw.call("send", { sequence, count }), "before")
  }

  /** The same to the bare server, by a bare HTTP request. */
  byBareHttp({ url }: Raw): Promise<Seen> {
    return this.#watch(1, async (sequence) => {
      await (await fetch(url, { headers: { "x-sequence": String(sequence) } })).text()
    }, "before")
  }

  async #watch(count: number, change: (first: number) => Promise<unknown>, since: "before" | "after"): Promise<Seen> {
    // Five digits: then they begin anew.
    if (this.#last + count > 99_999) this.#last = 10_000
    const first = this.#last + 1
    const { load } = this.#bench
    await load.call("expect", { name: this.#group, stepsEach: count, after: this.#last })
    this.#last += count
    const askedAt = now()
    await change(first)
    const committedAt = now()
    const from = since === "before" ? askedAt : committedAt
    const seen = await load.call("received", { name: this.#group, since: from, timeoutMillis }, timeoutMillis + 5_000)
    if (!seen.complete || seen.disordered > 0 || seen.lost > 0) {
      throw new Error(
        `of ${seen.expected} deliveries ${seen.spread.count} came, ${seen.disordered} out of order; ${seen.configs} configs instead; ` +
          `${seen.lost} connections lost`
      )
    }
    return { ...seen, commitMillis: committedAt - askedAt }
  }
}

function checkDelivery(answer: unknown, clients: number): void {
  const { delivery } = answer as { delivery?: { applied: number; pending: ReadonlyArray<unknown> } | null }
  if (delivery?.applied !== clients || delivery.pending.length > 0)
    throw new Error(`applied by ${delivery?.applied} of ${clients}: ${JSON.stringify(delivery).slice(0, 300)}`)
}

/** Waits until the server has nothing more to do, five seconds at most. */
export const settled = async (server: Control | Raw): Promise<number> => {
  const startedAt = now()
  let before = await server.probe.call("cpu", undefined as never)
  while (now() - startedAt < 5_000) {
    await sleep(200)
    const cpu = await server.probe.call("cpu", undefined as never)
    if (cpu - before < 20) break
    before = cpu
  }
  return now() - startedAt
}
