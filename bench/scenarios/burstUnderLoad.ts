/** Measures bursts to 1,000 gateways while these send 16,000 heartbeats per second and 2,000 agents connect. */
import { formatUsage, type Scenario } from "#bench/support/BenchRun.ts"
import { type ChangeResult, ChangeWriter, waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/timing.ts"
import { median } from "#bench/support/quantiles.ts"
import { tunnelDelta } from "#bench/support/servers.ts"
import { kilobytes, milliseconds } from "#bench/support/resultTable.ts"

const changes = 100

export const mixed: Scenario = {
  name: "mixed",
  description:
    "bursts of 100 changes to 1,000 gateways, alone and during 16,000 heartbeats per second and a storm of 2,000 agents",
  timeoutMillis: 300_000,
  run: async (bench) => {
    const bursts = bench.repetitions(12, 5)
    const network = await bench.createNetwork({ agents: 2_000, gateways: 1_000, tunnels: 500 })
    const control = await bench.startControl(network)
    const bareServer = await bench.startBareServer()
    const [tunnel] = network.tunnels
    if (tunnel !== undefined) await bareServer.commands.call("setTunnel", tunnelDelta(tunnel))

    let agentConfig = ""

    const compare = async (
      server: typeof control | typeof bareServer,
      name: string,
      change: () => Promise<ChangeResult>,
      profile?: string
    ) => {
      await bench.connectClients(name, server, "gateway", network.gatewayKeys)
      await sleep(1_000)
      const repeat = async () => {
        const p99: Array<number> = []
        for (let index = 0; index < bursts; index += 1) {
          p99.push((await change()).receiptTimes.p99)
          await sleep(250)
        }
        return p99
      }
      await change()
      const alone = await repeat()
      const [underLoad, usage] = await bench.measure(server, async () => {
        const heartbeats = bench.loadGenerator.call("sendHeartbeats", {
          name,
          perSecond: 16_000,
          seconds: bursts * 0.6
        })
        const storm = bench.connectClients(`${name} storm`, server, "agent", network.agentKeys, 400)
        const [p99, { configBytes, millis, firstConfig }, sentHeartbeats] = await Promise.all([
          repeat(),
          storm,
          heartbeats
        ])
        agentConfig = firstConfig
        bench.log(
          `${name}: the last config of the storm (${kilobytes(configBytes)}) arrived after ${
            milliseconds(millis)
          }; ${sentHeartbeats.sent} heartbeats sent`
        )
        await waitUntilIdle(server)
        return p99
      }, profile)
      await bench.loadGenerator.call("close", name)
      await bench.loadGenerator.call("close", `${name} storm`)
      await waitUntilIdle(server)
      return {
        alone: median(alone),
        underLoad: median(underLoad),
        worstAlone: Math.max(...alone),
        worstUnderLoad: Math.max(...underLoad),
        usage
      }
    }
    const controlChanges = new ChangeWriter(bench, "control")
    const ofControl = await compare(
      control,
      "control",
      () => controlChanges.updateBySql(network, changes),
      "all"
    )
    const bareChanges = new ChangeWriter(bench, "bare")
    await bareServer.commands.call("configure", { text: agentConfig, encodeEach: false })
    const ofBareServer = await compare(bareServer, "bare", () => bareChanges.commandBareServer(bareServer, changes))

    bench.addRow({
      label: `burst of ${changes} alone: p99 of deliveries`,
      control: milliseconds(ofControl.alone),
      bare: milliseconds(ofBareServer.alone),
      ratio: ofControl.alone / ofBareServer.alone
    })
    bench.addRow({
      label: `burst of ${changes} during 16 k heartbeats/s and a storm of 2,000: p99`,
      control: milliseconds(ofControl.underLoad),
      bare: milliseconds(ofBareServer.underLoad),
      ratio: ofControl.underLoad / ofBareServer.underLoad,
      usage: formatUsage(ofControl.usage)
    })
    const addRatioRow = (what: string, underLoad: "underLoad" | "worstUnderLoad", alone: "alone" | "worstAlone") => {
      const ratio = ofControl[underLoad] / ofControl[alone]
      bench.addRow({
        label: `burst under load over the burst alone: p99 of the ${what} burst`,
        control: `${milliseconds(ofControl[underLoad])} / ${milliseconds(ofControl[alone])}`,
        bare: `${milliseconds(ofBareServer[underLoad])} / ${milliseconds(ofBareServer[alone])}`,
        ratio,
        goal: "at most 2",
        isMet: ratio <= 2
      })
    }
    addRatioRow("median", "underLoad", "alone")
    addRatioRow("worst", "worstUnderLoad", "worstAlone")
  }
}
