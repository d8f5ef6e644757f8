/** 100,000 heartbeats from 1,000 clients: CPU and writes. */
import { formatUsage, type Scenario } from "#bench/support/Bench.ts"
import { waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"
import { microseconds } from "#bench/support/table.ts"

const perSecond = 10_000

export const heartbeats: Scenario = {
  name: "heartbeats",
  description: "100,000 heartbeats from 1,000 clients, 10,000 a second",
  timeoutMillis: 120_000,
  run: async (bench) => {
    const seconds = bench.repetitions(10, 6)
    const network = await bench.createNetwork({ agents: 50, gateways: 1_000, tunnels: 100 })
    const control = await bench.startControl(network)
    const raw = await bench.startBareServer()
    await bench.connectClients("control", control, "gateway", network.gatewayKeys)
    await bench.connectClients("raw", raw, "gateway", network.gatewayKeys)
    await sleep(1_000)

    const beat = async (server: typeof control | typeof raw, name: string, profile?: string) => {
      await bench.loadGenerator.call("sendHeartbeats", { name, perSecond, seconds: 2 })
      await waitUntilIdle(server)
      const [beaten, usage] = await bench.measure(server, async () => {
        const result = await bench.loadGenerator.call("sendHeartbeats", { name, perSecond, seconds })
        await waitUntilIdle(server)
        return result
      }, profile)
      return { usage, sent: beaten.sent }
    }
    const theirs = await beat(raw, "raw")
    const counted = await raw.commands.call("heartbeatCount", undefined as never)
    bench.log(`the bare server counted ${counted} heartbeats`)
    const ours = await beat(control, "control", "all")

    const rawEach = theirs.usage.serverMillis / theirs.sent
    const each = (ours.usage.serverMillis + (ours.usage.databaseMillis ?? 0)) / ours.sent
    bench.addRow({
      label: "heartbeat: CPU for each, server and database",
      control: microseconds(each),
      bare: microseconds(rawEach),
      ratio: each / rawEach,
      goal: "2 x raw",
      isMet: each / rawEach <= 2,
      usage: formatUsage(ours.usage)
    })
    const writes = ours.usage.transactions / ours.sent
    bench.addRow({
      label: "heartbeat: write transactions for each",
      control: writes.toPrecision(2),
      bare: "0",
      goal: "0.01",
      isMet: writes <= 0.01,
      usage: `${Math.round(ours.usage.walBytes / ours.sent)} bytes of log for each`
    })
  }
}
