/** Measures how long `POST /api/tunnels` takes with 200 and with 2,000 connected gateways. */
import { formatUsage, type Scenario } from "#bench/support/BenchRun.ts"
import { ChangeWriter } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/timing.ts"
import { median } from "#bench/support/quantiles.ts"
import { milliseconds } from "#bench/support/resultTable.ts"

export const create: Scenario = {
  name: "create",
  description: "POST /api/tunnels with 200 and with 2,000 gateways connected",
  timeoutMillis: 120_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents: 50, gateways: 2_000, tunnels: 100 })
    const control = await bench.startControl(network)
    const medianByGateways = new Map<number, number>()
    const changes = new ChangeWriter(bench, "control")
    for (const [from, to] of [[0, 200], [200, 2_000]] as const) {
      await bench.connectClients("control", control, "gateway", network.gatewayKeys.slice(from, to))
      await sleep(1_000)
      for (let index = 0; index < 20; index += 1) await changes.createTunnel(control, network)
      const [durations, usage] = await bench.measure(control, async () => {
        const durations: Array<number> = []
        // Each request starts after the fan-out of the previous one, so that no fan-out counts towards the next request.
        for (let index = 0; index < bench.repetitions(100, 30); index += 1) {
          durations.push((await changes.createTunnel(control, network)).commitMillis)
        }
        return durations
      }, `${to}`)
      medianByGateways.set(to, median(durations))
      bench.addRow({
        label: `HTTP create, ${to} gateways, p50`,
        control: milliseconds(median(durations)),
        bare: "",
        usage: formatUsage(usage)
      })
    }
    const ratio = (medianByGateways.get(2_000) ?? Number.NaN) / (medianByGateways.get(200) ?? Number.NaN)
    bench.addRow({
      label: "HTTP create: p50 at 2,000 gateways over that at 200",
      control: ratio.toFixed(2),
      bare: "",
      ratio,
      goal: "at most 1.5",
      isMet: ratio <= 1.5
    })
  }
}
