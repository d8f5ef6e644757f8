/** Restarts the database under 2,000 clients. All connections must stay open and receive later changes within 5 s. */
import { formatUsage, type Scenario } from "#bench/support/BenchRun.ts"
import { ChangeWriter, waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { median } from "#bench/support/quantiles.ts"
import { milliseconds } from "#bench/support/resultTable.ts"

const gateways = 50
const agents = 1_950

const downtimeMillis = 2_000

/** The number of changes committed as soon as the database answers again. */
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
    const gatewayChanges = new ChangeWriter(bench, "gateways")
    await gatewayChanges.updateBySql(network, changes)
    await bench.loadGenerator.call("expectDeltas", { name: "agents", deltasPerClient: Infinity, after: 0 })

    const receiptMillis: Array<number> = []
    const downtimes: Array<number> = []
    let usageText = ""
    for (let round = 0; round < bench.repetitions(5, 2); round += 1) {
      const downMillis = await bench.restartDatabase(downtimeMillis)
      const [delivery, usage] = await bench.measure(control, () => gatewayChanges.updateBySql(network, changes))
      downtimes.push(downMillis)
      receiptMillis.push(delivery.receiptTimes.last)
      usageText = formatUsage(usage)
    }
    const { lostConnections } = await bench.loadGenerator.call("waitForDeltas", {
      name: "agents",
      since: 0,
      timeoutMillis: 0
    })
    bench.addRow({
      label: `database restarted: its first answer to the last receipt, worst of ${receiptMillis.length}`,
      control: `${milliseconds(Math.max(...receiptMillis))} (median ${milliseconds(median(receiptMillis))})`,
      bare: "",
      goal: "5 s",
      isMet: Math.max(...receiptMillis) <= 5_000,
      usage: `database down for ${milliseconds(median(downtimes))}; ${usageText}`
    })
    bench.addRow({
      label: "database restarted: connections closed",
      control: String(lostConnections),
      bare: "",
      goal: "0",
      isMet: lostConnections === 0
    })
  }
}
