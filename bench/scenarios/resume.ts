/** Clients of `control.v1` come back after a restart of the server: with what they have seen, and without. */
import { type Bench, formatUsage, type Scenario, type Usage } from "#bench/support/Bench.ts"
import { waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import type { Network } from "#bench/support/Database.ts"
import type { ConnectResult } from "#bench/support/ClientGroup.ts"
import { median } from "#bench/support/quantiles.ts"
import type { Control } from "#bench/support/servers.ts"
import { kilobytes, microseconds, milliseconds } from "#bench/support/table.ts"

const tunnels = 1_000

/** Committed while the server is down: each of another tunnel, of another agent. */
const missed = 10

/** In turn, so that what else the machine does hits both alike. */
const ways = ["without", "with"] as const
type Way = typeof ways[number]

interface Return {
  readonly gateways: ConnectResult
  readonly agents: ConnectResult
  readonly usage: Usage
}

/** Many gateways make every config long. Few of them are the usual case, and the harder one: an agent's config is short then. */
const mixes = [{ gateways: 1_000, agents: 1_000 }, { gateways: 20, agents: 1_980 }]

export const resume: Scenario = {
  name: "resume",
  description:
    `2,000 clients of control.v1 come back after a restart, ${missed} changes later, with and without resuming`,
  timeoutMillis: 400_000,
  run: async (bench) => {
    for (const mix of mixes) {
      const network = await bench.createNetwork({ ...mix, tunnels })
      let control = await bench.startControl(network)
      await join(bench, control, network)
      const returns: Record<Way, Array<Return>> = { without: [], with: [] }
      for (let round = 0; round < bench.repetitions(3, 1); round += 1) {
        for (const way of ways) {
          control = await restarted(bench, control, network, round)
          const [[gateways, agents], usage] = await bench.measure(control, async () => {
            const joined = await join(bench, control, network, way)
            await waitUntilIdle(control)
            return joined
          }, round === 0 ? `${way}-${mix.gateways}` : undefined)
          if (way === "with") check(gateways, mix.gateways, missed * mix.gateways)
          if (way === "with") check(agents, mix.agents, missed)
          returns[way].push({ gateways, agents, usage })
        }
      }
      await bench.loadGenerator.call("close", "gateways")
      await bench.loadGenerator.call("close", "agents")
      await control.stop()
      report(bench, mix, returns)
    }
  }
}

function join(bench: Bench, control: Control, { agentKeys, gatewayKeys }: Network, way: Way = "without") {
  const v1 = (steps: number) => ({ acknowledge: false, ...(way === "with" && { missedDeltas: steps }) })
  return Promise.all([
    bench.connectClients("gateways", control, "gateway", gatewayKeys, 200, v1(missed * gatewayKeys.length)),
    bench.connectClients("agents", control, "agent", agentKeys, 200, v1(missed))
  ])
}

/** The clients are there when it stops, and keep their places. */
async function restarted(bench: Bench, control: Control, network: Network, round: number): Promise<Control> {
  await control.stop()
  for (const name of ["gateways", "agents"]) await bench.loadGenerator.call("disconnect", name)
  for (const { id } of network.tunnels.slice(round * missed, (round + 1) * missed)) {
    await network.query(
      "update tunnels set target = 'localhost:' || (right(target, 5)::int + 1) where id = $1",
      [id]
    )
  }
  const again = await bench.startControl(network, control)
  await waitUntilIdle(again)
  return again
}

function check({ resumedClients: resumed, deltas: steps }: ConnectResult, clients: number, missedInAll: number): void {
  if (resumed === clients && steps === missedInAll) return
  throw new Error(`${resumed} of ${clients} resumed; of ${missedInAll} missed steps ${steps} came`)
}

function report(bench: Bench, mix: typeof mixes[number], returns: Record<Way, ReadonlyArray<Return>>): void {
  const clients = mix.gateways + mix.agents
  const of = (way: Way, figure: (back: Return) => number) => median(returns[way].map(figure))
  const what = `back after a restart, ${mix.gateways} gateways and ${mix.agents} agents`
  const row = (
    figure: string,
    inText: (value: number) => string,
    value: (back: Return) => number,
    use: string,
    reach?: { readonly reach: string; readonly most: number }
  ) => {
    const [ours, theirs] = [of("with", value), of("without", value)]
    bench.addRow({
      label: `${what}: ${figure}, resuming / not`,
      control: `${inText(ours)} / ${inText(theirs)}`,
      bare: "",
      ratio: ours / theirs,
      ...(reach && { goal: reach.reach, isMet: ours / theirs <= reach.most }),
      usage: use
    })
  }
  const each = (kind: "gateways" | "agents") =>
    ways.toReversed().map((way) => kilobytes(of(way, (back) => back[kind].bytes) / mix[kind])).join(" / ")
  const use = ways.toReversed().map((way) => formatUsage((returns[way].at(-1) as Return).usage)).join(" / ")
  row(
    "bytes received",
    kilobytes,
    ({ agents, gateways }) => agents.bytes + gateways.bytes,
    `a gateway ${each("gateways")}, an agent ${each("agents")}`,
    { reach: "1/5", most: 0.2 }
  )
  row("until the last is ready", milliseconds, ({ agents, gateways }) => Math.max(agents.millis, gateways.millis), use)
  row("CPU of the server for each", microseconds, ({ usage }) => usage.serverMillis / clients, use)
}
