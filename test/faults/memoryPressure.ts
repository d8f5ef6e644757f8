/** F38: thousands of lightweight clients at a node with little memory. */
import { sleep } from "#bench/support/timing.ts"
import { openDatabase } from "#bench/support/BenchDatabase.ts"
import { type ClientListener, LeanClient } from "#bench/support/LeanClient.ts"
import { removeRunDirectory } from "#bench/support/runDirectory.ts"
import { join } from "node:path"
import { ControlNode } from "./ControlNode.ts"
import { makeTemporaryDirectory, removeDirectory } from "./embeddedNodeHelpers.ts"
import { formatMebibytes, readMetric } from "./nodeMetrics.ts"
import type { FaultRun } from "./FaultRun.ts"
import { formatSeconds, Sampler, waitUntil } from "./waitUntil.ts"

/** Client that reconnects some time after every lost connection. */
class ReconnectingClient implements ClientListener {
  isIn = false
  client: LeanClient | undefined
  readonly #port: number
  readonly #key: string
  readonly #ends: Map<string, number>
  readonly #again: () => number
  #isOver = false

  constructor(port: number, key: string, ends: Map<string, number>, again: () => number) {
    this.#port = port
    this.#key = key
    this.#ends = ends
    this.#again = again
  }

  dial(): void {
    if (this.#isOver) return
    this.client = new LeanClient(
      { host: "127.0.0.1", port: this.#port, localAddress: undefined, type: "agent", apiKey: this.#key },
      this
    )
  }

  /** Resets the connection, as a short network failure would. */
  lose(): void {
    this.isIn = false
    this.client?.terminate()
  }

  leave(): void {
    this.#isOver = true
    this.client?.terminate()
  }

  onUpgrade(): void {}

  onConfig(): void {
    this.isIn = true
  }

  onResumed(): void {
    this.isIn = true
  }

  onDeltas(): void {}

  onClose(_: LeanClient, reason: string): void {
    this.isIn = false
    if (this.#isOver) return
    this.#ends.set(reason, (this.#ends.get(reason) ?? 0) + 1)
    setTimeout(() => this.dial(), this.#again())
  }
}

/** Connects all clients at once, sends changes, then resets all connections at once. The node must survive. */
export const runManyClients = async (
  run: FaultRun,
  count: number,
  execArgv: ReadonlyArray<string>
): Promise<void> => {
  const database = await openDatabase()
  const network = await database.createNetwork({ agents: count, gateways: 2, tunnels: 20 })
  const directory = await makeTemporaryDirectory()
  const node = await ControlNode.make({
    name: "the node with little memory",
    dataDir: join(directory, "data"),
    execArgv,
    env: { DATABASE_URL: network.databaseUrl, CONTROL_MASTER_KEY: network.masterKey, CONTROL_LOG_LEVEL: "warn" }
  })
  const ends = new Map<string, number>()
  let clients: ReadonlyArray<ReconnectingClient> = []
  let peak = 0
  try {
    await node.start()
    const watching = new Sampler(500, async () => {
      peak = Math.max(peak, await readMetric(node, "control_process_memory_bytes").catch(() => 0))
    })
    clients = network.agentKeys.map((key) =>
      new ReconnectingClient(node.wsPort, key, ends, () => 500 + run.random.int(3_000))
    )
    const allIn = () => waitUntil(120_000, () => !node.isAlive || clients.every(({ isIn }) => isIn))
    for (const client of clients) client.dial()
    const first = await allIn()
    for (let round = 0; round < 100; round += 1) {
      await network.query("update tunnels set target = $1", [`round-${round}:1`])
    }
    await sleep(1_000)
    for (const client of clients) client.lose()
    const second = await allIn()
    await watching.stop()
    const what = [...ends].map(([reason, times]) => `${reason.split("\r")[0]} ×${times}`).join(", ")
    run.observe(
      `${count} agents connected after ${formatSeconds(first ?? Number.NaN)}, again after ${
        formatSeconds(second ?? Number.NaN)
      }`
    )
    run.observe(`ends: ${what}; peak memory ${formatMebibytes(peak)}`)
    run.check(node.isAlive, `the node has ended: ${node.output.slice(-500)}`)
    run.check(first !== undefined && second !== undefined, "not all clients connected")
    run.check(await node.isReady(), "the node is not ready")
  } finally {
    for (const client of clients) client.leave()
    await node.stop()
    await network.close()
    await database.close()
    removeRunDirectory()
    removeDirectory(directory)
  }
}
