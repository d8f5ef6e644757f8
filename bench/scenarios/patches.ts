/** Measures 500 concurrent `PATCH /api/tunnels` requests with 1,000 connected gateways, which receive every change. */
import { formatUsage, type Scenario } from "#bench/support/BenchRun.ts"
import { ChangeWriter } from "#bench/support/ChangeWriter.ts"
import { quantile } from "#bench/support/quantiles.ts"
import { milliseconds } from "#bench/support/resultTable.ts"
import { sleep } from "#bench/support/timing.ts"

const gateways = 1_000
const requests = 500

export const patches: Scenario = {
  name: "patches",
  description: `${requests} PATCH /api/tunnels at once with ${gateways} gateways connected, until each answer`,
  timeoutMillis: 300_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents: 50, gateways, tunnels: requests })
    const control = await bench.startControl(network)
    await bench.connectClients("control", control, "gateway", network.gatewayKeys, 100)
    await sleep(1_000)
    const changes = new ChangeWriter(bench, "control")
    const answerMillis: Array<number> = []
    const [lastReceiptMillis, usage] = await bench.measure(control, async () => {
      let last = 0
      for (let round = 0; round < bench.repetitions(5, 2); round += 1) {
        const { answers, receiptTimes } = await changes.patchAllTunnels(control, network)
        answerMillis.push(...answers)
        last = Math.max(last, receiptTimes.last)
      }
      return last
    }, "all")
    bench.addRow({
      label: `${requests} PATCH at once, ${gateways} gateways: p50 / slowest answer`,
      control: `${milliseconds(quantile(answerMillis, 0.5))} / ${milliseconds(quantile(answerMillis, 1))}`,
      bare: "",
      goal: "all answered with 200, within 5 s",
      isMet: quantile(answerMillis, 1) <= 5_000,
      usage: `last receipt after ${milliseconds(lastReceiptMillis)}; ${formatUsage(usage)}`
    })
  }
}
