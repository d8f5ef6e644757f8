/** Measures memory and latency while ten gateways read 4 kB per second during 100,000 changes. */
import { formatUsage, type Scenario } from "#bench/support/BenchRun.ts"
import { ChangeWriter, waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/timing.ts"
import { median } from "#bench/support/quantiles.ts"
import { milliseconds } from "#bench/support/resultTable.ts"

const slowGateways = 10
const fastGateways = 10
const burstSize = 500

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(2)} MiB`

export const slowReader: Scenario = {
  name: "slow-reader",
  description: `${slowGateways} gateways read 4 kB per second while 100,000 changes are committed`,
  timeoutMillis: 300_000,
  run: async (bench) => {
    const changes = bench.repetitions(100_000, 20_000)
    const network = await bench.createNetwork({ agents: 50, gateways: slowGateways + fastGateways, tunnels: burstSize })
    const control = await bench.startControl(network)
    await bench.connectClients("fast", control, "gateway", network.gatewayKeys.slice(slowGateways))
    const fastChanges = new ChangeWriter(bench, "fast")
    const bursts = async (count: number, sample: () => Promise<void> = async () => {}) => {
      const last: Array<number> = []
      for (let index = 0; index < count; index += 1) {
        last.push((await fastChanges.updateBySql(network, burstSize)).receiptTimes.last)
        await sample()
      }
      return median(last)
    }
    // A warm-up without slow gateways, because such changes leave some memory behind in any case.
    await bursts(20)
    const alone = await bursts(20)
    await bench.connectClients("slow", control, "gateway", network.gatewayKeys.slice(0, slowGateways))
    await waitUntilIdle(control)
    const before = await control.probe.call("memory", undefined as never)
    await bench.loadGenerator.call("limitReadRate", { name: "slow", bytesPerSecond: 4_096 })
    let peak = before
    const [withSlow, usage] = await bench.measure(control, () =>
      bursts(changes / burstSize, async () => {
        const now = await control.probe.call("memory", undefined as never)
        peak = {
          resident: Math.max(peak.resident, now.resident),
          heap: Math.max(peak.heap, now.heap)
        }
      }))
    // Control has closed connections whose sockets accepted no data for 10 s.
    const { lostConnections } = await bench.loadGenerator.call("waitForDeltas", {
      name: "slow",
      since: 0,
      timeoutMillis: 0
    })
    await bench.loadGenerator.call("close", "slow")
    await waitUntilIdle(control)
    await sleep(1_000)
    const after = await control.probe.call("memory", undefined as never)
    const peakPerClient = Math.max(peak.resident - before.resident, peak.heap - before.heap) / slowGateways
    bench.addRow({
      label: `slow reader over ${changes} changes: maximum memory for each`,
      control: mebibytes(peakPerClient),
      bare: "",
      goal: "4 MiB",
      isMet: peakPerClient <= 4 * 2 ** 20,
      usage: `${
        mebibytes((after.heap - before.heap) / slowGateways)
      } of heap after they disconnect; ${lostConnections} of ${slowGateways} were closed`
    })
    bench.addRow({
      label: `bursts of ${burstSize} to ${fastGateways} gateways with ${slowGateways} slow ones / alone, p50`,
      control: `${milliseconds(withSlow)} / ${milliseconds(alone)}`,
      bare: "",
      ratio: withSlow / alone,
      usage: formatUsage(usage)
    })
  }
}
