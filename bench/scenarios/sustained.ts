/** More and more heartbeats a second, and what that does to changes on their way. */
import { inWords, type Scenario } from "#bench/support/Bench.ts"
import { Changes, type Seen, settled } from "#bench/support/changes.ts"
import { now, sleep } from "#bench/support/clock.ts"
import { quantile } from "#bench/support/quantiles.ts"
import { stepAbout } from "#bench/support/servers.ts"
import { milliseconds, thousands } from "#bench/support/table.ts"

/** The server written from the spec's sample code managed four to eight thousand. */
const reachPerSecond = 16_000

export const sustained: Scenario = {
  name: "sustained",
  about: "fan-out to 1,000 gateways while they send 4,000 to 33,000 heartbeats a second",
  timeoutMillis: 240_000,
  run: async (bench) => {
    const network = await bench.network({ agents: 50, gateways: 1_000, tunnels: 500 })
    const control = await bench.control(network)
    const raw = await bench.raw()
    const [tunnel] = network.tunnels
    if (tunnel !== undefined) await raw.raw.call("about", stepAbout(tunnel))
    await bench.join("control", control, "gateway", network.gatewayKeys)
    await bench.join("raw", raw, "gateway", network.gatewayKeys)
    await sleep(1_000)
    const ofControl = new Changes(bench, "control")
    const ofRaw = new Changes(bench, "raw")
    const seconds = bench.times(8, 4)

    const under = async (
      server: typeof control | typeof raw,
      name: string,
      perSecond: number,
      change: () => Promise<Seen>
    ) => {
      const last: Array<number> = []
      const [beaten, usage] = await bench.measure(server, async () => {
        const beating = perSecond === 0
          ? Promise.resolve({ sent: 0, millis: seconds * 1_000 })
          : bench.load.call("beat", { name, perSecond, seconds }, (seconds + 20) * 1_000)
        const endsAt = now() + seconds * 1_000
        while (now() < endsAt) {
          last.push((await change()).spread.last)
          await sleep(40)
        }
        return beating
      }, name === "control" && perSecond > 0 ? `${perSecond}` : undefined)
      const behind = await settled(server)
      const held = beaten.sent >= 0.98 * perSecond * seconds && behind < 1_500
      return { perSecond, p50: quantile(last, 0.5), p99: quantile(last, 0.99), held, usage }
    }

    let best = { perSecond: 0, p99: Number.NaN }
    let rest = Number.NaN
    for (const perSecond of bench.times(1, 0) === 1 ? [0, 4_000, 8_000, 16_000, 24_000, 33_000] : [0, 16_000]) {
      const ours = await under(control, "control", perSecond, () => ofControl.bySql(network, 1))
      const theirs = await under(raw, "raw", perSecond, () => ofRaw.byCommand(raw, 1))
      if (perSecond === 0) rest = ours.p99
      const unharmed = ours.held && ours.p99 <= 2 * rest
      if (unharmed) best = { perSecond, p99: ours.p99 }
      bench.row({
        what: `${thousands(perSecond)} heartbeats a second: change to last receipt, p99 (p50)`,
        control: `${milliseconds(ours.p99)} (${milliseconds(ours.p50)})${ours.held ? "" : ", fell behind"}`,
        raw: `${milliseconds(theirs.p99)} (${milliseconds(theirs.p50)})${theirs.held ? "" : ", fell behind"}`,
        ratio: ours.p99 / theirs.p99,
        use: inWords(ours.usage)
      })
    }
    bench.row({
      what: "most heartbeats a second with p99 at most twice that at rest",
      control: `${thousands(best.perSecond)} (${milliseconds(best.p99)})`,
      raw: "",
      reach: `4 x naive = ${thousands(reachPerSecond)}`,
      met: best.perSecond >= reachPerSecond
    })
  }
}
