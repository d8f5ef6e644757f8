/** Measures one change at a time, until the last of 1,000 and of 2,000 gateways has received it. */
import type { BenchRun, Scenario } from "#bench/support/BenchRun.ts"
import { formatUsage } from "#bench/support/BenchRun.ts"
import { ChangeWriter } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/timing.ts"
import { quantile } from "#bench/support/quantiles.ts"
import { tunnelDelta } from "#bench/support/servers.ts"
import { milliseconds } from "#bench/support/resultTable.ts"

const maxRatio = 1.3

export const loneChange: Scenario = {
  name: "lone-change",
  description: "one change, until the last of 1,000 and of 2,000 gateways has received it",
  timeoutMillis: 240_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents: 50, gateways: 2_000, tunnels: 500 })
    const control = await bench.startControl(network)
    const bareServer = await bench.startBareServer()
    const controlChanges = new ChangeWriter(bench, "control")
    const bareChanges = new ChangeWriter(bench, "bare")
    const [tunnel] = network.tunnels
    if (tunnel !== undefined) await bareServer.commands.call("setTunnel", tunnelDelta(tunnel))

    for (const [from, to] of [[0, 1_000], [1_000, 2_000]] as const) {
      const keys = network.gatewayKeys.slice(from, to)
      await bench.connectClients("control", control, "gateway", keys)
      await bench.connectClients("bare", bareServer, "gateway", keys)
      await sleep(1_000)
      const samples = {
        control: Array<number>(),
        bare: Array<number>(),
        http: Array<number>(),
        bareHttp: Array<number>()
      }
      // The four alternate, so that other load on the machine affects all equally.
      const round = async (keep: boolean) => {
        const millis = {
          control: (await controlChanges.updateBySql(network, 1)).receiptTimes.last,
          bare: (await bareChanges.commandBareServer(bareServer, 1)).receiptTimes.last,
          http: (await controlChanges.patchTunnel(control, network)).receiptTimes.last,
          bareHttp: (await bareChanges.requestBareServer(bareServer)).receiptTimes.last
        }
        if (!keep) return
        for (const name of ["control", "bare", "http", "bareHttp"] as const) samples[name].push(millis[name])
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
  bench: BenchRun,
  gateways: number,
  samples: Record<"control" | "bare" | "http" | "bareHttp", ReadonlyArray<number>>,
  usageText: string
) {
  const addRow = (
    what: string,
    share: number,
    controlMillis: ReadonlyArray<number>,
    bareMillis: ReadonlyArray<number>,
    isGoal: boolean
  ) => {
    const [control, bare] = [quantile(controlMillis, share), quantile(bareMillis, share)]
    const ratio = control / bare
    bench.addRow({
      label: `${what}, ${gateways} gateways, p${share * 100}`,
      control: milliseconds(control),
      bare: milliseconds(bare),
      ratio,
      ...(isGoal ? { goal: `${maxRatio} x bare`, isMet: ratio <= maxRatio } : {}),
      usage: usageText
    })
  }
  addRow("lone change: commit to last receipt", 0.5, samples.control, samples.bare, true)
  addRow("lone change: commit to last receipt", 0.99, samples.control, samples.bare, false)
  addRow("lone change: HTTP request to last receipt", 0.5, samples.http, samples.bareHttp, false)
  addRow("lone change: HTTP request to last receipt", 0.99, samples.http, samples.bareHttp, false)
}
