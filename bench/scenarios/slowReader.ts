/** Ten gateways read 4 kB a second while 100,000 changes are committed: what that costs, and whom. */
import { inWords, type Scenario } from "#bench/support/Bench.ts"
import { Changes, settled } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"
import { median } from "#bench/support/quantiles.ts"
import { milliseconds } from "#bench/support/table.ts"

const slow = 10
const fast = 10
const together = 500

const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(2)} MiB`

export const slowReader: Scenario = {
  name: "slow-reader",
  about: `${slow} gateways read 4 kB a second while 100,000 changes are committed`,
  timeoutMillis: 300_000,
  run: async (bench) => {
    const changes = bench.times(100_000, 20_000)
    const network = await bench.network({ agents: 50, gateways: slow + fast, tunnels: together })
    const control = await bench.control(network)
    await bench.join("fast", control, "gateway", network.gatewayKeys.slice(slow))
    const toFast = new Changes(bench, "fast")
    const bursts = async (count: number, sample: () => Promise<void> = async () => {}) => {
      const last: Array<number> = []
      for (let index = 0; index < count; index += 1) {
        last.push((await toFast.bySql(network, together)).spread.last)
        await sample()
      }
      return median(last)
    }
    // A round without them: what such changes leave behind in any case.
    await bursts(20)
    const alone = await bursts(20)
    await bench.join("slow", control, "gateway", network.gatewayKeys.slice(0, slow))
    await settled(control)
    const before = await control.probe.call("memory", undefined as never)
    await bench.load.call("slow", { name: "slow", bytesPerSecond: 4_096 })
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
    const { lost } = await bench.load.call("received", { name: "slow", since: 0, timeoutMillis: 0 })
    await bench.load.call("close", "slow")
    await settled(control)
    await sleep(1_000)
    const after = await control.probe.call("memory", undefined as never)
    const each = Math.max(most.resident - before.resident, most.heap - before.heap) / slow
    bench.row({
      what: `slow reader over ${changes} changes: most memory for each, resident or heap`,
      control: megabytes(each),
      raw: "",
      reach: "4 MiB",
      met: each <= 4 * 2 ** 20,
      use: `${megabytes((after.heap - before.heap) / slow)} of heap when they are gone; ${lost} of ${slow} were closed`
    })
    bench.row({
      what: `bursts of ${together} to ${fast} gateways beside ${slow} slow ones / alone: to the last receipt, p50`,
      control: `${milliseconds(beside)} / ${milliseconds(alone)}`,
      raw: "",
      ratio: beside / alone,
      use: inWords(usage)
    })
  }
}
