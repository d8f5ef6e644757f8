/** Compares one node with 1,000 and with 10,000 idle agents and 50 gateways: latency, memory and CPU. */
import { type BenchRun, formatUsage, type Scenario } from "#bench/support/BenchRun.ts"
import { ChangeWriter, waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/timing.ts"
import type { Network } from "#bench/support/BenchDatabase.ts"
import { quantile } from "#bench/support/quantiles.ts"
import type { Control } from "#bench/support/servers.ts"
import { kilobytes, milliseconds } from "#bench/support/resultTable.ts"

const sizes = [1_000, 10_000] as const
const gateways = 50

/** The interval that protocol.md recommends. */
const heartbeatIntervalSeconds = 30

const idleSeconds = 10

interface Figures {
  /** Growth of heap and array buffers per connection, in bytes. */
  readonly heap: number
  /** Growth of resident memory per connection, in bytes. */
  readonly resident: number
  /** CPU usage as text while clients send only heartbeats. */
  readonly idle: string
  readonly idleCpuShare: number
  readonly agentMillis: ReadonlyArray<number>
  readonly gatewayMillis: ReadonlyArray<number>
  readonly usageText: string
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
      figures.push(await measureNode(bench, control, network, agents))
      for (const name of ["first", "idle", "one", "gateways"]) {
        await bench.loadGenerator.call("close", `${name} ${agents}`)
      }
      await control.stop()
    }
    report(bench, figures as [Figures, Figures])
  }
}

async function measureNode(bench: BenchRun, control: Control, network: Network, agents: number): Promise<Figures> {
  // The first connections load and compile code. The measurement excludes that memory from the growth.
  await bench.connectClients(`first ${agents}`, control, "agent", network.agentKeys.slice(agents), 20)
  await waitUntilIdle(control)
  const before = await control.probe.call("memory", undefined as never)
  await bench.connectClients(`one ${agents}`, control, "agent", network.agentKeys.slice(0, 1))
  await bench.connectClients(`idle ${agents}`, control, "agent", network.agentKeys.slice(1, agents), 200)
  await waitUntilIdle(control)
  await sleep(6_000)
  const after = await control.probe.call("memory", undefined as never)
  await bench.connectClients(`gateways ${agents}`, control, "gateway", network.gatewayKeys)

  const heartbeats = { name: `idle ${agents}`, perSecond: Math.round(agents / heartbeatIntervalSeconds) }
  const [, idle] = await bench.measure(
    control,
    () => bench.loadGenerator.call("sendHeartbeats", { ...heartbeats, seconds: idleSeconds }, 60_000)
  )
  const agentChanges = new ChangeWriter(bench, `one ${agents}`)
  const gatewayChanges = new ChangeWriter(bench, `gateways ${agents}`, 50_000)
  const [agentMillis, gatewayMillis]: [Array<number>, Array<number>] = [[], []]
  const rounds = bench.repetitions(200, 40)
  const [, usage] = await bench.measure(control, async () => {
    const sendingHeartbeats = bench.loadGenerator.call(
      "sendHeartbeats",
      { ...heartbeats, seconds: rounds / 20 },
      120_000
    )
    for (let index = 0; index < rounds; index += 1) {
      agentMillis.push((await agentChanges.updateBySql(network, 1)).receiptTimes.last)
    }
    // The gateways receive these changes too.
    await sleep(500)
    for (let index = 0; index < rounds; index += 1) {
      gatewayMillis.push((await gatewayChanges.updateBySql(network, 1)).receiptTimes.last)
    }
    await sendingHeartbeats
  }, `${agents}`)
  const growthPerClient = (what: "heap" | "resident") => (after[what] - before[what]) / agents
  return {
    heap: growthPerClient("heap"),
    resident: growthPerClient("resident"),
    idle: formatUsage(idle),
    idleCpuShare: idle.serverMillis / idle.millis,
    agentMillis,
    gatewayMillis,
    usageText: formatUsage(usage)
  }
}

function report(bench: BenchRun, [small, large]: readonly [Figures, Figures]): void {
  const addLatencyRow = (
    what: string,
    share: number,
    durations: (figures: Figures) => ReadonlyArray<number>,
    goal?: { readonly text: string; readonly maxRatio: number }
  ) => {
    const [before, after] = [quantile(durations(small), share), quantile(durations(large), share)]
    bench.addRow({
      label: `${what}, p${share * 100}, with 10,000 agents / 1,000`,
      control: `${milliseconds(after)} / ${milliseconds(before)}`,
      bare: "",
      ratio: after / before,
      ...(goal && { goal: goal.text, isMet: after / before <= goal.maxRatio }),
      usage: large.usageText
    })
  }
  const ofAgent = ({ agentMillis }: Figures) => agentMillis
  const ofGateways = ({ gatewayMillis }: Figures) => gatewayMillis
  addLatencyRow("a change that concerns one agent", 0.5, ofAgent, { text: "at most 1.25", maxRatio: 1.25 })
  addLatencyRow("a change that concerns one agent", 0.99, ofAgent)
  addLatencyRow("a change to 50 gateways, to the last of them", 0.5, ofGateways)
  addLatencyRow("a change to 50 gateways, to the last of them", 0.99, ofGateways)
  for (const what of ["heap", "resident"] as const) {
    bench.addRow({
      label: `idle connection: growth of ${what === "heap" ? "heap" : "resident memory"}, 10,000 agents / 1,000`,
      control: `${kilobytes(large[what])} / ${kilobytes(small[what])}`,
      bare: "",
      ratio: large[what] / small[what],
      ...(what === "heap" && { goal: "at most 1.25", isMet: large[what] / small[what] <= 1.25 }),
      usage: what === "heap" ? "" : `${Math.round(large.resident * sizes[1] / 1e6)} MB resident for ${sizes[1]} agents`
    })
  }
  bench.addRow({
    label: "idle, CPU of the server, 10,000 agents / 1,000",
    control: `${(100 * large.idleCpuShare).toFixed(1)} % / ${(100 * small.idleCpuShare).toFixed(1)} %`,
    bare: "",
    ratio: large.idleCpuShare / small.idleCpuShare,
    usage: large.idle
  })
}
