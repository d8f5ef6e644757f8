/** Bursts to 1,000 gateways while these send 16,000 heartbeats a second and 2,000 agents connect. */
import { formatUsage, type Scenario } from "#bench/support/Bench.ts"
import { type ChangeResult, ChangeWriter, waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"
import { median } from "#bench/support/quantiles.ts"
import { tunnelDelta } from "#bench/support/servers.ts"
import { kilobytes, milliseconds } from "#bench/support/table.ts"

const changes = 100

export const mixed: Scenario = {
  name: "mixed",
  description:
    "bursts of 100 changes to 1,000 gateways, alone and amid 16,000 heartbeats a second and a storm of 2,000 agents",
  timeoutMillis: 300_000,
  run: async (bench) => {
    const bursts = bench.repetitions(12, 5)
    const network = await bench.createNetwork({ agents: 2_000, gateways: 1_000, tunnels: 500 })
    const control = await bench.startControl(network)
    const raw = await bench.startBareServer()
    const [tunnel] = network.tunnels
    if (tunnel !== undefined) await raw.commands.call("setTunnel", tunnelDelta(tunnel))

    let agentConfig = ""

    const compare = async (
      server: typeof control | typeof raw,
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
      const [amid, usage] = await bench.measure(server, async () => {
        const beating = bench.loadGenerator.call("sendHeartbeats", { name, perSecond: 16_000, seconds: bursts * 0.6 })
        const storm = bench.connectClients(`${name} storm`, server, "agent", network.agentKeys, 400)
        const [p99, { configBytes, millis, firstConfig }, beaten] = await Promise.all([repeat(), storm, beating])
        agentConfig = firstConfig
        bench.log(
          `${name}: the storm's last config (${kilobytes(configBytes)}) came after ${
            milliseconds(millis)
          }; ${beaten.sent} heartbeats sent`
        )
        await waitUntilIdle(server)
        return p99
      }, profile)
      await bench.loadGenerator.call("close", name)
      await bench.loadGenerator.call("close", `${name} storm`)
      await waitUntilIdle(server)
      return {
        alone: median(alone),
        amid: median(amid),
        worstAlone: Math.max(...alone),
        worstAmid: Math.max(...amid),
        usage
      }
    }
    const ours = await compare(
      control,
      "control",
      (() => {
        const ofControl = new ChangeWriter(bench, "control")
        return () => ofControl.updateBySql(network, changes)
      })(),
      "all"
    )
    const ofRaw = new ChangeWriter(bench, "raw")
    await raw.commands.call("configure", { text: agentConfig, encodeEach: false })
    const theirs = await compare(raw, "raw", () => ofRaw.commandBareServer(raw, changes))

    bench.addRow({
      label: `burst of ${changes} alone: p99 of deliveries`,
      control: milliseconds(ours.alone),
      bare: milliseconds(theirs.alone),
      ratio: ours.alone / theirs.alone
    })
    bench.addRow({
      label: `burst of ${changes} amid 16 k heartbeats/s and a storm of 2,000: p99`,
      control: milliseconds(ours.amid),
      bare: milliseconds(theirs.amid),
      ratio: ours.amid / theirs.amid,
      usage: formatUsage(ours.usage)
    })
    const against = (what: string, amid: "amid" | "worstAmid", alone: "alone" | "worstAlone") => {
      const ratio = ours[amid] / ours[alone]
      bench.addRow({
        label: `burst amid all that over the burst alone: p99 of the ${what} burst`,
        control: `${milliseconds(ours[amid])} / ${milliseconds(ours[alone])}`,
        bare: `${milliseconds(theirs[amid])} / ${milliseconds(theirs[alone])}`,
        ratio,
        goal: "2 at most",
        isMet: ratio <= 2
      })
    }
    against("median", "amid", "alone")
    against("worst", "worstAmid", "worstAlone")
  }
}
