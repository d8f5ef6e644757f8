/** Bursts to 1,000 gateways while these send 16,000 heartbeats a second and 2,000 agents connect. */
import { inWords, type Scenario } from "#bench/support/Bench.ts"
import { Changes, type Seen, settled } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"
import { median } from "#bench/support/quantiles.ts"
import { stepAbout } from "#bench/support/servers.ts"
import { kilobytes, milliseconds } from "#bench/support/table.ts"

const changes = 100

export const mixed: Scenario = {
  name: "mixed",
  about:
    "bursts of 100 changes to 1,000 gateways, alone and amid 16,000 heartbeats a second and a storm of 2,000 agents",
  timeoutMillis: 300_000,
  run: async (bench) => {
    const bursts = bench.times(12, 5)
    const network = await bench.network({ agents: 2_000, gateways: 1_000, tunnels: 500 })
    const control = await bench.control(network)
    const raw = await bench.raw()
    const [tunnel] = network.tunnels
    if (tunnel !== undefined) await raw.raw.call("about", stepAbout(tunnel))

    let agentConfig = ""

    const compare = async (
      server: typeof control | typeof raw,
      name: string,
      change: () => Promise<Seen>,
      profile?: string
    ) => {
      await bench.join(name, server, "gateway", network.gatewayKeys)
      await sleep(1_000)
      const repeat = async () => {
        const p99: Array<number> = []
        for (let index = 0; index < bursts; index += 1) {
          p99.push((await change()).spread.p99)
          await sleep(250)
        }
        return p99
      }
      await change()
      const alone = await repeat()
      const [amid, usage] = await bench.measure(server, async () => {
        const beating = bench.load.call("beat", { name, perSecond: 16_000, seconds: bursts * 0.6 })
        const storm = bench.join(`${name} storm`, server, "agent", network.agentKeys, 400)
        const [p99, { configBytes, millis, sample }, beaten] = await Promise.all([repeat(), storm, beating])
        agentConfig = sample
        bench.note(
          `${name}: the storm's last config (${kilobytes(configBytes)}) came after ${
            milliseconds(millis)
          }; ${beaten.sent} heartbeats sent`
        )
        await settled(server)
        return p99
      }, profile)
      await bench.load.call("close", name)
      await bench.load.call("close", `${name} storm`)
      await settled(server)
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
        const ofControl = new Changes(bench, "control")
        return () => ofControl.bySql(network, changes)
      })(),
      "all"
    )
    const ofRaw = new Changes(bench, "raw")
    await raw.raw.call("configure", { text: agentConfig, encodeEach: false })
    const theirs = await compare(raw, "raw", () => ofRaw.byCommand(raw, changes))

    bench.row({
      what: `burst of ${changes} alone: p99 of deliveries`,
      control: milliseconds(ours.alone),
      raw: milliseconds(theirs.alone),
      ratio: ours.alone / theirs.alone
    })
    bench.row({
      what: `burst of ${changes} amid 16 k heartbeats/s and a storm of 2,000: p99`,
      control: milliseconds(ours.amid),
      raw: milliseconds(theirs.amid),
      ratio: ours.amid / theirs.amid,
      use: inWords(ours.usage)
    })
    const against = (what: string, amid: "amid" | "worstAmid", alone: "alone" | "worstAlone") => {
      const ratio = ours[amid] / ours[alone]
      bench.row({
        what: `burst amid all that over the burst alone: p99 of the ${what} burst`,
        control: `${milliseconds(ours[amid])} / ${milliseconds(ours[alone])}`,
        raw: `${milliseconds(theirs[amid])} / ${milliseconds(theirs[alone])}`,
        ratio,
        reach: "2 at most",
        met: ratio <= 2
      })
    }
    against("median", "amid", "alone")
    against("worst", "worstAmid", "worstAlone")
  }
}
