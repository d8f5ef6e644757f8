/** The database is restarted under 2,000 clients: nobody is closed, and everybody has what was committed after it soon. */
import { inWords, type Scenario } from "#bench/support/Bench.ts"
import { Changes, settled } from "#bench/support/ChangeWriter.ts"
import { median } from "#bench/support/quantiles.ts"
import { milliseconds } from "#bench/support/table.ts"

const gateways = 50
const agents = 1_950

const awayMillis = 2_000

/** How many changes are committed as soon as it answers. */
const changes = 20

export const outage: Scenario = {
  name: "outage",
  about: "the database is restarted under 2,000 clients",
  timeoutMillis: 240_000,
  run: async (bench) => {
    const network = await bench.network({ agents, gateways, tunnels: agents })
    const control = await bench.control(network)
    await bench.join("gateways", control, "gateway", network.gatewayKeys)
    await bench.join("agents", control, "agent", network.agentKeys, 200)
    await settled(control)
    const toGateways = new Changes(bench, "gateways")
    await toGateways.bySql(network, changes)
    await bench.load.call("expect", { name: "agents", stepsEach: Infinity, after: 0 })

    const converged: Array<number> = []
    const down: Array<number> = []
    let use = ""
    for (let round = 0; round < bench.times(5, 2); round += 1) {
      const downMillis = await bench.restartDatabase(awayMillis)
      const [seen, usage] = await bench.measure(control, () => toGateways.bySql(network, changes))
      down.push(downMillis)
      converged.push(seen.spread.last)
      use = inWords(usage)
    }
    const { lost } = await bench.load.call("received", { name: "agents", since: 0, timeoutMillis: 0 })
    bench.row({
      what: `database restarted under ${
        gateways + agents
      } clients: from its first answer to the last receipt, worst of ${converged.length}`,
      control: `${milliseconds(Math.max(...converged))} (median ${milliseconds(median(converged))})`,
      raw: "",
      reach: "5 s",
      met: Math.max(...converged) <= 5_000,
      use: `away for ${milliseconds(median(down))}; ${use}`
    })
    bench.row({
      what: `database restarted under ${gateways + agents} clients: connections closed`,
      control: String(lost),
      raw: "",
      reach: "0",
      met: lost === 0
    })
  }
}
