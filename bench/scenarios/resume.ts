/** Compares reconnects of `control.v1` clients after a server restart with and without `resume`. */
import { type BenchRun, formatUsage, type Scenario, type Usage } from "#bench/support/BenchRun.ts"
import { waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import type { Network } from "#bench/support/BenchDatabase.ts"
import type { ConnectResult } from "#bench/support/ClientGroup.ts"
import { median } from "#bench/support/quantiles.ts"
import type { Control } from "#bench/support/servers.ts"
import { kilobytes, microseconds, milliseconds } from "#bench/support/resultTable.ts"

const tunnels = 1_000

/** The number of changes committed while the server is down, each to a different tunnel of a different agent. */
const missedChanges = 10

/** The two modes alternate, so that other load on the machine affects both equally. */
const modes = ["without", "with"] as const
type Mode = typeof modes[number]

interface Reconnect {
  readonly gateways: ConnectResult
  readonly agents: ConnectResult
  readonly usage: Usage
}

/** Many gateways make every config long. With few gateways, the usual case, configs are short and resuming saves less. */
const populations = [{ gateways: 1_000, agents: 1_000 }, { gateways: 20, agents: 1_980 }]

export const resume: Scenario = {
  name: "resume",
  description:
    `2,000 clients of control.v1 reconnect after a restart and ${missedChanges} changes, with and without resume`,
  timeoutMillis: 400_000,
  run: async (bench) => {
    for (const population of populations) {
      const network = await bench.createNetwork({ ...population, tunnels })
      let control = await bench.startControl(network)
      await join(bench, control, network)
      const reconnects: Record<Mode, Array<Reconnect>> = { without: [], with: [] }
      for (let round = 0; round < bench.repetitions(3, 1); round += 1) {
        for (const mode of modes) {
          control = await restart(bench, control, network, round)
          const [[gateways, agents], usage] = await bench.measure(control, async () => {
            const joined = await join(bench, control, network, mode)
            await waitUntilIdle(control)
            return joined
          }, round === 0 ? `${mode}-${population.gateways}` : undefined)
          if (mode === "with") assertResumed(gateways, population.gateways, missedChanges * population.gateways)
          if (mode === "with") assertResumed(agents, population.agents, missedChanges)
          reconnects[mode].push({ gateways, agents, usage })
        }
      }
      await bench.loadGenerator.call("close", "gateways")
      await bench.loadGenerator.call("close", "agents")
      await control.stop()
      report(bench, population, reconnects)
    }
  }
}

function join(bench: BenchRun, control: Control, { agentKeys, gatewayKeys }: Network, mode: Mode = "without") {
  const controlV1 = (missedDeltas: number) => ({ acknowledge: false, ...(mode === "with" && { missedDeltas }) })
  return Promise.all([
    bench.connectClients(
      "gateways",
      control,
      "gateway",
      gatewayKeys,
      200,
      controlV1(missedChanges * gatewayKeys.length)
    ),
    bench.connectClients("agents", control, "agent", agentKeys, 200, controlV1(missedChanges))
  ])
}

/** Restarts Control while the clients are connected, so that they keep their positions. Commits changes in between. */
async function restart(bench: BenchRun, control: Control, network: Network, round: number): Promise<Control> {
  await control.stop()
  for (const name of ["gateways", "agents"]) await bench.loadGenerator.call("disconnect", name)
  for (const { id } of network.tunnels.slice(round * missedChanges, (round + 1) * missedChanges)) {
    await network.query(
      "update tunnels set target = 'localhost:' || (right(target, 5)::int + 1) where id = $1",
      [id]
    )
  }
  const restarted = await bench.startControl(network, control)
  await waitUntilIdle(restarted)
  return restarted
}

function assertResumed(
  { deltas, resumedClients }: ConnectResult,
  clients: number,
  expectedDeltas: number
): void {
  if (resumedClients === clients && deltas === expectedDeltas) return
  throw new Error(
    `${resumedClients} of ${clients} clients resumed and received ${deltas} of ${expectedDeltas} missed deltas`
  )
}

function report(
  bench: BenchRun,
  population: typeof populations[number],
  reconnects: Record<Mode, ReadonlyArray<Reconnect>>
): void {
  const clients = population.gateways + population.agents
  const medianOf = (mode: Mode, measure: (reconnect: Reconnect) => number) => median(reconnects[mode].map(measure))
  const what = `reconnect after a restart, ${population.gateways} gateways and ${population.agents} agents`
  const addRow = (
    quantity: string,
    format: (value: number) => string,
    value: (reconnect: Reconnect) => number,
    usageText: string,
    goal?: { readonly text: string; readonly maxRatio: number }
  ) => {
    const [withResume, withoutResume] = [medianOf("with", value), medianOf("without", value)]
    bench.addRow({
      label: `${what}: ${quantity}, with resume / without`,
      control: `${format(withResume)} / ${format(withoutResume)}`,
      bare: "",
      ratio: withResume / withoutResume,
      ...(goal && { goal: goal.text, isMet: withResume / withoutResume <= goal.maxRatio }),
      usage: usageText
    })
  }
  const bytesPerClient = (kind: "gateways" | "agents") =>
    modes.toReversed().map((mode) => kilobytes(medianOf(mode, (reconnect) => reconnect[kind].bytes) / population[kind]))
      .join(
        " / "
      )
  const usageText = modes.toReversed().map((mode) => formatUsage((reconnects[mode].at(-1) as Reconnect).usage)).join(
    " / "
  )
  addRow(
    "bytes received",
    kilobytes,
    ({ agents, gateways }) => agents.bytes + gateways.bytes,
    `a gateway ${bytesPerClient("gateways")}, an agent ${bytesPerClient("agents")}`,
    { text: "1/5", maxRatio: 0.2 }
  )
  addRow(
    "until the last client is ready",
    milliseconds,
    ({ agents, gateways }) => Math.max(agents.millis, gateways.millis),
    usageText
  )
  addRow("server CPU per client", microseconds, ({ usage }) => usage.serverMillis / clients, usageText)
}
