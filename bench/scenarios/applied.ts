/** How long `?wait=applied` waits, beside how long the same change takes to the last client without it. */
import { formatUsage, type Scenario } from "#bench/support/Bench.ts"
import { ChangeWriter } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"
import { quantile } from "#bench/support/quantiles.ts"
import { milliseconds } from "#bench/support/table.ts"

const gateways = 50
const reach = 2

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

    const waited: Array<number> = []
    const fannedOut: Array<number> = []
    const sent: Array<number> = []
    // In turn, so that what else the machine does hits both alike.
    const round = async (keep: boolean) => {
      const applied = await changes.createTunnel(control, network, { clients: gateways })
      const plain = await changes.createTunnel(control, network)
      if (!keep) return
      waited.push(applied.commitMillis)
      sent.push(applied.receiptTimes.last)
      fannedOut.push(plain.receiptTimes.last)
    }
    for (let index = 0; index < 20; index += 1) await round(false)
    const [, usage] = await bench.measure(control, async () => {
      for (let index = 0; index < bench.repetitions(100, 30); index += 1) await round(true)
    }, "all")
    for (const share of [0.5, 0.99]) {
      const [ours, theirs] = [quantile(waited, share), quantile(fannedOut, share)]
      bench.addRow({
        label: `HTTP create with wait=applied, ${gateways} gateways / to the last of them without, p${share * 100}`,
        control: `${milliseconds(ours)} / ${milliseconds(theirs)}`,
        bare: "",
        ratio: ours / theirs,
        ...(share === 0.5 ? { goal: `${reach} at most`, isMet: ours / theirs <= reach } : {}),
        usage: share === 0.5 ? `the last had it after ${milliseconds(quantile(sent, share))}` : formatUsage(usage)
      })
    }
  }
}
