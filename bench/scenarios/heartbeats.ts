/** Measures CPU and database writes of 100,000 heartbeats from 1,000 clients. */
import { formatUsage, type Scenario } from "#bench/support/BenchRun.ts"
import { waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/timing.ts"
import { microseconds } from "#bench/support/resultTable.ts"

const perSecond = 10_000

export const heartbeats: Scenario = {
  name: "heartbeats",
  description: "100,000 heartbeats from 1,000 clients, 10,000 per second",
  timeoutMillis: 120_000,
  run: async (bench) => {
    const seconds = bench.repetitions(10, 6)
    const network = await bench.createNetwork({ agents: 50, gateways: 1_000, tunnels: 100 })
    const control = await bench.startControl(network)
    const bareServer = await bench.startBareServer()
    await bench.connectClients("control", control, "gateway", network.gatewayKeys)
    await bench.connectClients("bare", bareServer, "gateway", network.gatewayKeys)
    await sleep(1_000)

    const sendHeartbeats = async (server: typeof control | typeof bareServer, name: string, profile?: string) => {
      await bench.loadGenerator.call("sendHeartbeats", { name, perSecond, seconds: 2 })
      await waitUntilIdle(server)
      const [heartbeats, usage] = await bench.measure(server, async () => {
        const result = await bench.loadGenerator.call("sendHeartbeats", { name, perSecond, seconds })
        await waitUntilIdle(server)
        return result
      }, profile)
      return { usage, sent: heartbeats.sent }
    }
    const ofBareServer = await sendHeartbeats(bareServer, "bare")
    const counted = await bareServer.commands.call("heartbeatCount", undefined as never)
    bench.log(`the bare server counted ${counted} heartbeats`)
    const ofControl = await sendHeartbeats(control, "control", "all")

    const barePerHeartbeat = ofBareServer.usage.serverMillis / ofBareServer.sent
    const perHeartbeat = (ofControl.usage.serverMillis + (ofControl.usage.databaseMillis ?? 0)) / ofControl.sent
    bench.addRow({
      label: "heartbeat: CPU of server and database, each",
      control: microseconds(perHeartbeat),
      bare: microseconds(barePerHeartbeat),
      ratio: perHeartbeat / barePerHeartbeat,
      goal: "2 x bare",
      isMet: perHeartbeat / barePerHeartbeat <= 2,
      usage: formatUsage(ofControl.usage)
    })
    const transactionsEach = ofControl.usage.transactions / ofControl.sent
    bench.addRow({
      label: "heartbeat: write transactions, each",
      control: transactionsEach.toPrecision(2),
      bare: "0",
      goal: "0.01",
      isMet: transactionsEach <= 0.01,
      usage: `${Math.round(ofControl.usage.walBytes / ofControl.sent)} bytes of WAL, each`
    })
  }
}
