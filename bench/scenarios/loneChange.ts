/** One change at a time, to the last of 1,000 and of 2,000 gateways. */
import type { Bench, Scenario } from "#bench/support/Bench.ts"
import { inWords } from "#bench/support/Bench.ts"
import { Changes } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"
import { quantile } from "#bench/support/quantiles.ts"
import { stepAbout } from "#bench/support/servers.ts"
import { milliseconds } from "#bench/support/table.ts"

const reach = 1.3

export const loneChange: Scenario = {
  name: "lone-change",
  about: "one change to the last of 1,000 and of 2,000 gateways",
  timeoutMillis: 240_000,
  run: async (bench) => {
    const network = await bench.network({ agents: 50, gateways: 2_000, tunnels: 500 })
    const control = await bench.control(network)
    const raw = await bench.raw()
    const ofControl = new Changes(bench, "control")
    const ofRaw = new Changes(bench, "raw")
    const [tunnel] = network.tunnels
    if (tunnel !== undefined) await raw.raw.call("about", stepAbout(tunnel))

    for (const [from, to] of [[0, 1_000], [1_000, 2_000]] as const) {
      const keys = network.gatewayKeys.slice(from, to)
      await bench.join("control", control, "gateway", keys)
      await bench.join("raw", raw, "gateway", keys)
      await sleep(1_000)
      const samples = {
        control: Array<number>(),
        raw: Array<number>(),
        http: Array<number>(),
        bareHttp: Array<number>()
      }
      // In turn, so that what else the machine does hits both alike.
      const round = async (keep: boolean) => {
        const seen = {
          control: (await ofControl.bySql(network, 1)).spread.last,
          raw: (await ofRaw.byCommand(raw, 1)).spread.last,
          http: (await ofControl.byHttp(control, network)).spread.last,
          bareHttp: (await ofRaw.byBareHttp(raw)).spread.last
        }
        if (!keep) return
        for (const name of ["control", "raw", "http", "bareHttp"] as const) samples[name].push(seen[name])
      }
      for (let index = 0; index < 20; index += 1) await round(false)
      const [, usage] = await bench.measure(control, async () => {
        for (let index = 0; index < bench.times(100, 30); index += 1) await round(true)
      }, `${to}`)
      report(bench, to, samples, inWords(usage))
    }
  }
}

function report(
  bench: Bench,
  gateways: number,
  samples: Record<"control" | "raw" | "http" | "bareHttp", ReadonlyArray<number>>,
  use: string
) {
  const row = (
    what: string,
    share: number,
    ours: ReadonlyArray<number>,
    theirs: ReadonlyArray<number>,
    goal: boolean
  ) => {
    const [control, raw] = [quantile(ours, share), quantile(theirs, share)]
    const ratio = control / raw
    bench.row({
      what: `${what}, ${gateways} gateways, p${share * 100}`,
      control: milliseconds(control),
      raw: milliseconds(raw),
      ratio,
      ...(goal ? { reach: `${reach} x raw`, met: ratio <= reach } : {}),
      use
    })
  }
  row("lone change: commit to last receipt", 0.5, samples.control, samples.raw, true)
  row("lone change: commit to last receipt", 0.99, samples.control, samples.raw, false)
  row("lone change: HTTP request to last receipt", 0.5, samples.http, samples.bareHttp, false)
  row("lone change: HTTP request to last receipt", 0.99, samples.http, samples.bareHttp, false)
}
