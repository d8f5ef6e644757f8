/** One change at a time, to the last of 1,000 and of 2,000 gateways. */
import type { Bench, Scenario } from "#bench/support/Bench.ts"
import { formatUsage } from "#bench/support/Bench.ts"
import { ChangeWriter } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"
import { quantile } from "#bench/support/quantiles.ts"
import { tunnelDelta } from "#bench/support/servers.ts"
import { milliseconds } from "#bench/support/table.ts"

const reach = 1.3

export const loneChange: Scenario = {
  name: "lone-change",
  description: "one change to the last of 1,000 and of 2,000 gateways",
  timeoutMillis: 240_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents: 50, gateways: 2_000, tunnels: 500 })
    const control = await bench.startControl(network)
    const raw = await bench.startBareServer()
    const ofControl = new ChangeWriter(bench, "control")
    const ofRaw = new ChangeWriter(bench, "raw")
    const [tunnel] = network.tunnels
    if (tunnel !== undefined) await raw.commands.call("setTunnel", tunnelDelta(tunnel))

    for (const [from, to] of [[0, 1_000], [1_000, 2_000]] as const) {
      const keys = network.gatewayKeys.slice(from, to)
      await bench.connectClients("control", control, "gateway", keys)
      await bench.connectClients("raw", raw, "gateway", keys)
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
          control: (await ofControl.updateBySql(network, 1)).receiptTimes.last,
          raw: (await ofRaw.commandBareServer(raw, 1)).receiptTimes.last,
          http: (await ofControl.patchTunnel(control, network)).receiptTimes.last,
          bareHttp: (await ofRaw.requestBareServer(raw)).receiptTimes.last
        }
        if (!keep) return
        for (const name of ["control", "raw", "http", "bareHttp"] as const) samples[name].push(seen[name])
      }
      for (let index = 0; index < 20; index += 1) await round(false)
      const [, usage] = await bench.measure(control, async () => {
        for (let index = 0; index < bench.repetitions(100, 30); index += 1) await round(true)
      }, `${to}`)
      report(bench, to, samples, formatUsage(usage))
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
    bench.addRow({
      label: `${what}, ${gateways} gateways, p${share * 100}`,
      control: milliseconds(control),
      bare: milliseconds(raw),
      ratio,
      ...(goal ? { goal: `${reach} x raw`, isMet: ratio <= reach } : {}),
      usage: use
    })
  }
  row("lone change: commit to last receipt", 0.5, samples.control, samples.raw, true)
  row("lone change: commit to last receipt", 0.99, samples.control, samples.raw, false)
  row("lone change: HTTP request to last receipt", 0.5, samples.http, samples.bareHttp, false)
  row("lone change: HTTP request to last receipt", 0.99, samples.http, samples.bareHttp, false)
}
