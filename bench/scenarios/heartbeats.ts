/** 100,000 heartbeats from 1,000 clients: CPU and writes. */
import { inWords, type Scenario } from "#bench/support/Bench.ts"
import { settled } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"
import { microseconds } from "#bench/support/table.ts"

const perSecond = 10_000

export const heartbeats: Scenario = {
  name: "heartbeats",
  about: "100,000 heartbeats from 1,000 clients, 10,000 a second",
  timeoutMillis: 120_000,
  run: async (bench) => {
    const seconds = bench.times(10, 6)
    const network = await bench.network({ agents: 50, gateways: 1_000, tunnels: 100 })
    const control = await bench.control(network)
    const raw = await bench.raw()
    await bench.join("control", control, "gateway", network.gatewayKeys)
    await bench.join("raw", raw, "gateway", network.gatewayKeys)
    await sleep(1_000)

    const beat = async (server: typeof control | typeof raw, name: string, profile?: string) => {
      await bench.load.call("beat", { name, perSecond, seconds: 2 })
      await settled(server)
      const [beaten, usage] = await bench.measure(server, async () => {
        const result = await bench.load.call("beat", { name, perSecond, seconds })
        await settled(server)
        return result
      }, profile)
      return { usage, sent: beaten.sent }
    }
    const theirs = await beat(raw, "raw")
    const counted = await raw.raw.call("heartbeats", undefined as never)
    bench.note(`the bare server counted ${counted} heartbeats`)
    const ours = await beat(control, "control", "all")

    const rawEach = theirs.usage.server / theirs.sent
    const each = (ours.usage.server + (ours.usage.database ?? 0)) / ours.sent
    bench.row({
      what: "heartbeat: CPU for each, server and database",
      control: microseconds(each),
      raw: microseconds(rawEach),
      ratio: each / rawEach,
      reach: "2 x raw",
      met: each / rawEach <= 2,
      use: inWords(ours.usage)
    })
    const writes = ours.usage.transactions / ours.sent
    bench.row({
      what: "heartbeat: write transactions for each",
      control: writes.toPrecision(2),
      raw: "0",
      reach: "0.01",
      met: writes <= 0.01,
      use: `${Math.round(ours.usage.walBytes / ours.sent)} bytes of log for each`
    })
  }
}
