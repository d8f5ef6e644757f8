/** Compares the duration of `?wait=applied` with the time until the last client receives the same change. */
import { formatUsage, type Scenario } from "#bench/support/BenchRun.ts"
import { ChangeWriter } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/timing.ts"
import { quantile } from "#bench/support/quantiles.ts"
import { milliseconds } from "#bench/support/resultTable.ts"

const gateways = 50
const maxRatio = 2

export const applied: Scenario = {
  name: "applied",
  description: `POST /api/tunnels?wait=applied with ${gateways} gateways of control.v1 that acknowledge at once`,
  timeoutMillis: 120_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents: 50, gateways, tunnels: 100 })
    const control = await bench.startControl(network)
    const changes = new ChangeWriter(bench, "control")
    await bench.connectClients("control", control, "gateway", network.gatewayKeys, 100, { acknowledge: true })
    await sleep(1_000)

    const appliedMillis: Array<number> = []
    const plainMillis: Array<number> = []
    const deliveredMillis: Array<number> = []
    // The two alternate, so that other load on the machine affects both equally.
    const round = async (keep: boolean) => {
      const applied = await changes.createTunnel(control, network, { clients: gateways })
      const plain = await changes.createTunnel(control, network)
      if (!keep) return
      appliedMillis.push(applied.commitMillis)
      deliveredMillis.push(applied.receiptTimes.last)
      plainMillis.push(plain.receiptTimes.last)
    }
    for (let index = 0; index < 20; index += 1) await round(false)
    const [, usage] = await bench.measure(control, async () => {
      for (let index = 0; index < bench.repetitions(100, 30); index += 1) await round(true)
    }, "all")
    for (const share of [0.5, 0.99]) {
      const [withWait, withoutWait] = [quantile(appliedMillis, share), quantile(plainMillis, share)]
      bench.addRow({
        label: `HTTP create, ${gateways} gateways, with wait=applied / last receipt without, p${share * 100}`,
        control: `${milliseconds(withWait)} / ${milliseconds(withoutWait)}`,
        bare: "",
        ratio: withWait / withoutWait,
        ...(share === 0.5 ? { goal: `at most ${maxRatio}`, isMet: withWait / withoutWait <= maxRatio } : {}),
        usage: share === 0.5
          ? `last receipt after ${milliseconds(quantile(deliveredMillis, share))}`
          : formatUsage(usage)
      })
    }
  }
}
