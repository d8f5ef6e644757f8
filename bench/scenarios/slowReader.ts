/** Ten gateways read 4 kB a second while 100,000 changes are committed: what that costs, and whom. */
import { formatUsage, type Scenario } from "#bench/support/Bench.ts"
import { ChangeWriter, waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"
import { median } from "#bench/support/quantiles.ts"
import { milliseconds } from "#bench/support/table.ts"

const slow = 10
const fast = 10
const together = 500

const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(2)} MiB`

export const slowReader: Scenario = {
  name: "slow-reader",
  description: `${slow} gateways read 4 kB a second while 100,000 changes are committed`,
  timeoutMillis: 300_000,
  run: async (bench) => {
    const changes = bench.repetitions(100_000, 20_000)
    const network = await bench.createNetwork({ agents: 50, gateways: slow + fast, tunnels: together })
    const control = await bench.startControl(network)
    await bench.connectClients("fast", control, "gateway", network.gatewayKeys.slice(slow))
    const toFast = new ChangeWriter(bench, "fast")
    const bursts = async (count: number, sample: () => Promise<void> = async () => {}) => {
      const last: Array<number> = []
      for (let index = 0; index < count; index += 1) {
        last.push((await toFast.updateBySql(network, together)).receiptTimes.last)
        await sample()
      }
      return median(last)
    }
    // A round without them: what such changes leave behind in any case.
    await bursts(20)
    const alone = await bursts(20)
    await bench.connectClients("slow", control, "gateway", network.gatewayKeys.slice(0, slow))
    await waitUntilIdle(control)
    const before = await control.probe.call("memory", undefined as never)
    await bench.loadGenerator.call("limitReadRate", { name: "slow", bytesPerSecond: 4_096 })
    let most = before
    const [beside, usage] = await bench.measure(control, () =>
      bursts(changes / together, async () => {
        const now = await control.probe.call("memory", undefined as never)
        most = {
          resident: Math.max(most.resident, now.resident),
          heap: Math.max(most.heap, now.heap)
        }
      }))
    // Those whose sockets took nothing for ten seconds have been let go by then.
    const { lostConnections } = await bench.loadGenerator.call("waitForDeltas", {
      name: "slow",
      since: 0,
      timeoutMillis: 0
    })
    await bench.loadGenerator.call("close", "slow")
    await waitUntilIdle(control)
    await sleep(1_000)
    const after = await control.probe.call("memory", undefined as never)
    const each = Math.max(most.resident - before.resident, most.heap - before.heap) / slow
    bench.addRow({
      label: `slow reader over ${changes} changes: most memory for each, resident or heap`,
      control: megabytes(each),
      bare: "",
      goal: "4 MiB",
      isMet: each <= 4 * 2 ** 20,
      usage: `${
        megabytes((after.heap - before.heap) / slow)
      } of heap when they are gone; ${lostConnections} of ${slow} were closed`
    })
    bench.addRow({
      label: `bursts of ${together} to ${fast} gateways beside ${slow} slow ones / alone: to the last receipt, p50`,
      control: `${milliseconds(beside)} / ${milliseconds(alone)}`,
      bare: "",
      ratio: beside / alone,
      usage: formatUsage(usage)
    })
  }
}
