/** The database is restarted under 2,000 clients: nobody is closed, and everybody has what was committed after it soon. */
import { formatUsage, type Scenario } from "#bench/support/Bench.ts"
import { ChangeWriter, waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { median } from "#bench/support/quantiles.ts"
import { milliseconds } from "#bench/support/table.ts"

const gateways = 50
const agents = 1_950

const awayMillis = 2_000

/** How many changes are committed as soon as it answers. */
const changes = 20

export const outage: Scenario = {
  name: "outage",
  description: "the database is restarted under 2,000 clients",
  timeoutMillis: 240_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents, gateways, tunnels: agents })
    const control = await bench.startControl(network)
    await bench.connectClients("gateways", control, "gateway", network.gatewayKeys)
    await bench.connectClients("agents", control, "agent", network.agentKeys, 200)
    await waitUntilIdle(control)
    const toGateways = new ChangeWriter(bench, "gateways")
    await toGateways.updateBySql(network, changes)
    await bench.loadGenerator.call("expectDeltas", { name: "agents", deltasPerClient: Infinity, after: 0 })

    const converged: Array<number> = []
    const down: Array<number> = []
    let use = ""
    for (let round = 0; round < bench.repetitions(5, 2); round += 1) {
      const downMillis = await bench.restartDatabase(awayMillis)
      const [seen, usage] = await bench.measure(control, () => toGateways.updateBySql(network, changes))
      down.push(downMillis)
      converged.push(seen.receiptTimes.last)
      use = formatUsage(usage)
    }
    const { lostConnections } = await bench.loadGenerator.call("waitForDeltas", {
      name: "agents",
      since: 0,
      timeoutMillis: 0
    })
    bench.addRow({
      label: `database restarted under ${
        gateways + agents
      } clients: from its first answer to the last receipt, worst of ${converged.length}`,
      control: `${milliseconds(Math.max(...converged))} (median ${milliseconds(median(converged))})`,
      bare: "",
      goal: "5 s",
      isMet: Math.max(...converged) <= 5_000,
      usage: `away for ${milliseconds(median(down))}; ${use}`
    })
    bench.addRow({
      label: `database restarted under ${gateways + agents} clients: connections closed`,
      control: String(lostConnections),
      bare: "",
      goal: "0",
      isMet: lostConnections === 0
    })
  }
}
