/** Numbered changes of tunnels, and what the clients of a group saw of them. */
import type { Bench } from "./Bench.ts"
import { now, sleep } from "./clock.ts"
import type { Network } from "./Database.ts"
import type { DeliveryResult } from "./ClientGroup.ts"
import type { BareServer, Control } from "./servers.ts"

const deliveryTimeoutMillis = 60_000

export interface ChangeResult extends DeliveryResult {
  /** From the moment when the change was asked for to its commit. */
  readonly commitMillis: number
}

/** The changes of one server, numbered without gaps so that clients see what is lost, doubled or out of order. */
export class ChangeWriter {
  readonly #bench: Bench
  readonly #group: string
  #lastSequence: number

  /** Two of one network begin at numbers apart, so that the one's change is none of the other's: five digits each. */
  constructor(bench: Bench, group: string, after = 10_000) {
    this.#bench = bench
    this.#group = group
    this.#lastSequence = after
  }

  /** Many changes, each of another tunnel, in one transaction of another program; latencies count from the commit's answer. */
  updateBySql(network: Network, count: number): Promise<ChangeResult> {
    return this.#writeAndWait(count, (first) =>
      network.query(`do $$ begin
        for i in 0..${count - 1} loop
          update tunnels set target = 'localhost:' || (${first} + i)
            where domain = 'app-' || lpad((i % ${network.tunnels.length})::text, 5, '0') || '.example.com';
        end loop;
      end $$`), "after")
  }

  /** Changes of one tunnel after the other at an even rate, each in a transaction of its own; latencies say nothing here. */
  updateAtRate(network: Network, perSecond: number, seconds: number): Promise<ChangeResult> {
    const count = perSecond * seconds
    return this.#writeAndWait(count, async (first) => {
      const startedAt = now()
      for (let index = 0; index < count; index += 1) {
        await sleep(Math.max(0, startedAt + index * 1_000 / perSecond - now()))
        const { id = "" } = network.tunnels[index % network.tunnels.length] ?? {}
        await network.query("update tunnels set target = 'localhost:' || $1::int where id = $2", [first + index, id])
      }
    }, "before")
  }

  /** One change by the HTTP API; latencies count from the request. */
  patchTunnel(control: Control, network: Network): Promise<ChangeResult> {
    const tunnel = network.tunnels[this.#lastSequence % network.tunnels.length]
    return this.#writeAndWait(
      1,
      (sequence) => control.request("PATCH", `/api/tunnels/${tunnel?.id}`, { target: `localhost:${sequence}` }),
      "before"
    )
  }

  /**
   * A new tunnel by the HTTP API; `commitMillis` is how long its operator waited. With `wait` the answer must say that so many
   * clients have applied it.
   */
  createTunnel(control: Control, network: Network, wait?: { readonly clients: number }): Promise<ChangeResult> {
    const agentId = network.agentIds[this.#lastSequence % network.agentIds.length]
    return this.#writeAndWait(
      1,
      async (sequence) => {
        const answer = await control.request("POST", `/api/tunnels${wait === undefined ? "" : "?wait=applied"}`, {
          agentId,
          domain: `new-${sequence}.example.com`,
          target: `localhost:${sequence}`
        })
        if (wait !== undefined) assertAppliedByAll(answer, wait.clients)
      },
      "before"
    )
  }

  /** The same to the bare server, by its command channel. */
  commandBareServer({ commands: raw }: BareServer, count: number): Promise<ChangeResult> {
    return this.#writeAndWait(count, (sequence) => raw.call("sendDeltas", { sequence, count }), "before")
  }

  /** The same to the bare server, by a bare HTTP request. */
  requestBareServer({ url }: BareServer): Promise<ChangeResult> {
    return this.#writeAndWait(1, async (sequence) => {
      await (await fetch(url, { headers: { "x-sequence": String(sequence) } })).text()
    }, "before")
  }

  async #writeAndWait(
    count: number,
    change: (first: number) => Promise<unknown>,
    since: "before" | "after"
  ): Promise<ChangeResult> {
    // Five digits: then they begin anew.
    if (this.#lastSequence + count > 99_999) this.#lastSequence = 10_000
    const first = this.#lastSequence + 1
    const { loadGenerator } = this.#bench
    await loadGenerator.call("expectDeltas", { name: this.#group, deltasPerClient: count, after: this.#lastSequence })
    this.#lastSequence += count
    const requestedAt = now()
    await change(first)
    const committedAt = now()
    const startsAt = since === "before" ? requestedAt : committedAt
    const delivery = await loadGenerator.call("waitForDeltas", {
      name: this.#group,
      since: startsAt,
      timeoutMillis: deliveryTimeoutMillis
    }, deliveryTimeoutMillis + 5_000)
    if (!delivery.isComplete || delivery.outOfOrder > 0 || delivery.lostConnections > 0) {
      throw new Error(
        `of ${delivery.expected} deliveries ${delivery.receiptTimes.count} came, ${delivery.outOfOrder} out of order; ${delivery.configs} configs instead; ` +
          `${delivery.lostConnections} connections lost`
      )
    }
    return { ...delivery, commitMillis: committedAt - requestedAt }
  }
}

function assertAppliedByAll(answer: unknown, clients: number): void {
  const { delivery } = answer as { delivery?: { applied: number; pending: ReadonlyArray<unknown> } | null }
  if (delivery?.applied !== clients || delivery.pending.length > 0)
    throw new Error(`applied by ${delivery?.applied} of ${clients}: ${JSON.stringify(delivery).slice(0, 300)}`)
}

/** Waits until the server has nothing more to do, five seconds at most. */
export const waitUntilIdle = async (server: Control | BareServer): Promise<number> => {
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
