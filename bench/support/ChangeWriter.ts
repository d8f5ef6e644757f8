/** Writes numbered tunnel changes and waits until a client group has received them. */
import type { BenchRun } from "./BenchRun.ts"
import { now, sleep } from "./timing.ts"
import type { Network } from "./BenchDatabase.ts"
import type { DeliveryResult } from "./ClientGroup.ts"
import type { BareServer, Control } from "./servers.ts"

const deliveryTimeoutMillis = 60_000

export interface ChangeResult extends DeliveryResult {
  /** Milliseconds from the request of the change to its commit. */
  readonly commitMillis: number
}

/** Writes changes with gapless numbers, so that clients detect lost, duplicated and reordered deltas. */
export class ChangeWriter {
  readonly #bench: BenchRun
  readonly #group: string
  #lastSequence: number

  /** Two writers of one network need distant start values (five digits), so that their changes never share a number. */
  constructor(bench: BenchRun, group: string, after = 10_000) {
    this.#bench = bench
    this.#group = group
    this.#lastSequence = after
  }

  /** Updates `count` tunnels in one SQL transaction. Latencies count from the end of the commit. */
  updateBySql(network: Network, count: number): Promise<ChangeResult> {
    return this.#writeAndWait(count, (first) =>
      network.query(`do $$ begin
        for i in 0..${count - 1} loop
          update tunnels set target = 'localhost:' || (${first} + i)
            where domain = 'app-' || lpad((i % ${network.tunnels.length})::text, 5, '0') || '.example.com';
        end loop;
      end $$`), "after")
  }

  /** Updates one tunnel after the other at an even rate, one transaction each. Latencies are meaningless here. */
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

  /** Updates one tunnel by the HTTP API. Latencies count from the request. */
  patchTunnel(control: Control, network: Network): Promise<ChangeResult> {
    const tunnel = network.tunnels[this.#lastSequence % network.tunnels.length]
    return this.#writeAndWait(
      1,
      (sequence) => control.request("PATCH", `/api/tunnels/${tunnel?.id}`, { target: `localhost:${sequence}` }),
      "before"
    )
  }

  /** Updates every tunnel by the HTTP API, all at once. Fails unless each request succeeds. `answers` are in milliseconds. */
  async patchAllTunnels(
    control: Control,
    network: Network
  ): Promise<ChangeResult & { readonly answers: ReadonlyArray<number> }> {
    const answers: Array<number> = []
    const result = await this.#writeAndWait(
      network.tunnels.length,
      async (first) => {
        const startedAt = now()
        await Promise.all(network.tunnels.map(async ({ id }, index) => {
          await control.request("PATCH", `/api/tunnels/${id}`, { target: `localhost:${first + index}` })
          answers.push(now() - startedAt)
        }))
      },
      "before",
      true
    )
    return { ...result, answers }
  }

  /**
   * Creates a tunnel by the HTTP API. `commitMillis` is the duration of the request. With `wait`, the response must report
   * that this number of clients has applied the change.
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

  /** Makes the bare server send `count` deltas, by IPC. */
  commandBareServer({ commands }: BareServer, count: number): Promise<ChangeResult> {
    return this.#writeAndWait(count, (sequence) => commands.call("sendDeltas", { sequence, count }), "before")
  }

  /** Makes the bare server send one delta, by an HTTP request. */
  requestBareServer({ url }: BareServer): Promise<ChangeResult> {
    return this.#writeAndWait(1, async (sequence) => {
      await (await fetch(url, { headers: { "x-sequence": String(sequence) } })).text()
    }, "before")
  }

  async #writeAndWait(
    count: number,
    change: (first: number) => Promise<unknown>,
    since: "before" | "after",
    isConcurrent = false
  ): Promise<ChangeResult> {
    // Sequence numbers have five digits, so they restart after 99,999.
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
    const outOfOrder = isConcurrent ? 0 : delivery.outOfOrder
    if (!delivery.isComplete || outOfOrder > 0 || delivery.lostConnections > 0) {
      throw new Error(
        `received ${delivery.receiptTimes.count} of ${delivery.expected} deltas, ${outOfOrder} out of order; ` +
          `${delivery.configs} configs in place of deltas; ${delivery.lostConnections} connections lost`
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

/** Waits at most 5 s until the server uses less than 10 % of a core. Returns the waiting time in milliseconds. */
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
