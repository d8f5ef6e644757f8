/** From 1,000 to 10,000 idle agents on one node, with 50 gateways: what grows, and what does not. */
import { type Bench, formatUsage, type Scenario } from "#bench/support/Bench.ts"
import { ChangeWriter, waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"
import type { Network } from "#bench/support/Database.ts"
import { quantile } from "#bench/support/quantiles.ts"
import type { Control } from "#bench/support/servers.ts"
import { kilobytes, milliseconds } from "#bench/support/table.ts"

const sizes = [1_000, 10_000] as const
const gateways = 50

/** As protocol.md has it: each client says that it is there once in 30 seconds. */
const beatEvery = 30

const idleSeconds = 10

interface Figures {
  /** Growth of the heap with array buffers, and of resident memory, for each connection. */
  readonly heap: number
  readonly resident: number
  /** Shares of a core while nothing but heartbeats comes. */
  readonly idle: string
  readonly idleServer: number
  readonly one: ReadonlyArray<number>
  readonly all: ReadonlyArray<number>
  readonly use: string
}

export const scale: Scenario = {
  name: "scale",
  description: "1,000 and 10,000 idle agents and 50 gateways on one node",
  timeoutMillis: 600_000,
  run: async (bench) => {
    const figures: Array<Figures> = []
    for (const agents of sizes) {
      const network = await bench.createNetwork({ agents: agents + 500, gateways, tunnels: agents })
      const control = await bench.startControl(network)
      figures.push(await measured(bench, control, network, agents))
      for (const name of ["first", "idle", "one", "gateways"]) {
        await bench.loadGenerator.call("close", `${name} ${agents}`)
      }
      await control.stop()
    }
    report(bench, figures as [Figures, Figures])
  }
}

async function measured(bench: Bench, control: Control, network: Network, agents: number): Promise<Figures> {
  // What the first connections load and compile is not the others'.
  await bench.connectClients(`first ${agents}`, control, "agent", network.agentKeys.slice(agents), 20)
  await waitUntilIdle(control)
  const before = await control.probe.call("memory", undefined as never)
  await bench.connectClients(`one ${agents}`, control, "agent", network.agentKeys.slice(0, 1))
  await bench.connectClients(`idle ${agents}`, control, "agent", network.agentKeys.slice(1, agents), 200)
  await waitUntilIdle(control)
  await sleep(6_000)
  const after = await control.probe.call("memory", undefined as never)
  await bench.connectClients(`gateways ${agents}`, control, "gateway", network.gatewayKeys)

  const idling = { name: `idle ${agents}`, perSecond: Math.round(agents / beatEvery) }
  const [, idle] = await bench.measure(
    control,
    () => bench.loadGenerator.call("sendHeartbeats", { ...idling, seconds: idleSeconds }, 60_000)
  )
  const toOne = new ChangeWriter(bench, `one ${agents}`)
  const toAll = new ChangeWriter(bench, `gateways ${agents}`, 50_000)
  const [one, all]: [Array<number>, Array<number>] = [[], []]
  const rounds = bench.repetitions(200, 40)
  const [, usage] = await bench.measure(control, async () => {
    const beating = bench.loadGenerator.call("sendHeartbeats", { ...idling, seconds: rounds / 20 }, 120_000)
    for (let index = 0; index < rounds; index += 1) one.push((await toOne.updateBySql(network, 1)).receiptTimes.last)
    // The gateways were told of these as well.
    await sleep(500)
    for (let index = 0; index < rounds; index += 1) all.push((await toAll.updateBySql(network, 1)).receiptTimes.last)
    await beating
  }, `${agents}`)
  const each = (what: "heap" | "resident") => (after[what] - before[what]) / agents
  return {
    heap: each("heap"),
    resident: each("resident"),
    idle: formatUsage(idle),
    idleServer: idle.serverMillis / idle.millis,
    one,
    all,
    use: formatUsage(usage)
  }
}

function report(bench: Bench, [small, large]: readonly [Figures, Figures]): void {
  const pair = (
    what: string,
    share: number,
    of: "one" | "all",
    goal?: { readonly reach: string; readonly most: number }
  ) => {
    const [before, after] = [quantile(small[of], share), quantile(large[of], share)]
    bench.addRow({
      label: `${what}, p${share * 100}, with 10,000 agents / 1,000`,
      control: `${milliseconds(after)} / ${milliseconds(before)}`,
      bare: "",
      ratio: after / before,
      ...(goal && { goal: goal.reach, isMet: after / before <= goal.most }),
      usage: large.use
    })
  }
  pair("a change that concerns one agent: commit to receipt", 0.5, "one", { reach: "flat: 1.25 at most", most: 1.25 })
  pair("a change that concerns one agent: commit to receipt", 0.99, "one")
  pair("a change to 50 gateways: commit to last receipt", 0.5, "all")
  pair("a change to 50 gateways: commit to last receipt", 0.99, "all")
  for (const what of ["heap", "resident"] as const) {
    bench.addRow({
      label: `idle connection: growth of ${what}, 10,000 agents / 1,000`,
      control: `${kilobytes(large[what])} / ${kilobytes(small[what])}`,
      bare: "",
      ratio: large[what] / small[what],
      ...(what === "heap" && { goal: "linear: 1.25 at most", isMet: large[what] / small[what] <= 1.25 }),
      usage: what === "heap" ? "" : `${Math.round(large.resident * sizes[1] / 1e6)} MB for all of them`
    })
  }
  bench.addRow({
    label: `idle, one heartbeat in ${beatEvery} s each: CPU of the server, 10,000 agents / 1,000`,
    control: `${(100 * large.idleServer).toFixed(1)} % / ${(100 * small.idleServer).toFixed(1)} %`,
    bare: "",
    ratio: large.idleServer / small.idleServer,
    usage: large.idle
  })
}
