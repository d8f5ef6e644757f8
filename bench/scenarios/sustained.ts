/** More and more heartbeats a second, and what that does to changes on their way. */
import { formatUsage, type Scenario, type Usage } from "#bench/support/Bench.ts"
import { type ChangeResult, ChangeWriter, waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { now, sleep } from "#bench/support/clock.ts"
import { median, quantile } from "#bench/support/quantiles.ts"
import { tunnelDelta } from "#bench/support/servers.ts"
import { milliseconds, thousands } from "#bench/support/table.ts"

/** The server written from the spec's sample code managed four to eight thousand. */
const reachPerSecond = 16_000

export const sustained: Scenario = {
  name: "sustained",
  description: "fan-out to 1,000 gateways while they send 4,000 to 33,000 heartbeats a second",
  timeoutMillis: 400_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents: 50, gateways: 1_000, tunnels: 500 })
    const control = await bench.startControl(network)
    const raw = await bench.startBareServer()
    const [tunnel] = network.tunnels
    if (tunnel !== undefined) await raw.commands.call("setTunnel", tunnelDelta(tunnel))
    await bench.connectClients("control", control, "gateway", network.gatewayKeys)
    await bench.connectClients("raw", raw, "gateway", network.gatewayKeys)
    await sleep(1_000)
    const ofControl = new ChangeWriter(bench, "control")
    const ofRaw = new ChangeWriter(bench, "raw")
    const seconds = bench.repetitions(5, 3)

    const under = async (
      server: typeof control | typeof raw,
      name: string,
      perSecond: number,
      change: () => Promise<ChangeResult>
    ): Promise<Slice> => {
      const last: Array<number> = []
      const [beaten, usage] = await bench.measure(server, async () => {
        const beating = perSecond === 0
          ? Promise.resolve({ sent: 0, millis: seconds * 1_000 })
          : bench.loadGenerator.call("sendHeartbeats", { name, perSecond, seconds }, (seconds + 20) * 1_000)
        const endsAt = now() + seconds * 1_000
        while (now() < endsAt) {
          last.push((await change()).receiptTimes.last)
          await sleep(40)
        }
        return beating
      }, name === "control" && perSecond > 0 ? `${perSecond}` : undefined)
      const behind = await waitUntilIdle(server)
      const held = beaten.sent >= 0.98 * perSecond * seconds && behind < 1_500
      return { p50: quantile(last, 0.5), p99: quantile(last, 0.99), held, usage }
    }

    const rates = bench.quick ? [0, 16_000] : [0, 4_000, 8_000, 16_000, 24_000, 33_000]
    const slices = new Map(rates.map((perSecond) => [perSecond, { ours: Array<Slice>(), theirs: Array<Slice>() }]))
    // Round by round, so that a disturbance from outside hits one slice of a rate and not all of it.
    for (let round = 0; round < bench.repetitions(3, 1); round += 1) {
      for (const [perSecond, { ours, theirs }] of slices) {
        ours.push(await under(control, "control", perSecond, () => ofControl.updateBySql(network, 1)))
        theirs.push(await under(raw, "raw", perSecond, () => ofRaw.commandBareServer(raw, 1)))
      }
    }

    let best = 0
    let unharmedSoFar = true
    const rest = summary(slices.get(0)?.ours ?? []).p99
    for (const [perSecond, { ours, theirs }] of slices) {
      const [our, their] = [summary(ours), summary(theirs)]
      // A rate only counts when every lower one has passed: one lucky slice proves nothing.
      unharmedSoFar &&= our.held && our.p99 <= 2 * rest
      if (unharmedSoFar) best = perSecond
      bench.addRow({
        label: `${thousands(perSecond)} heartbeats a second: change to last receipt, p99 (p50)`,
        control: our.text,
        bare: their.text,
        ratio: our.p99 / their.p99,
        usage: ours[0] === undefined ? "" : formatUsage(ours[0].usage)
      })
    }
    bench.addRow({
      label: "most heartbeats a second up to which p99 stays within twice that at rest",
      control: thousands(best),
      bare: "",
      goal: `4 x naive = ${thousands(reachPerSecond)}`,
      isMet: best >= reachPerSecond
    })
  }
}

interface Slice {
  readonly p50: number
  readonly p99: number
  /** All heartbeats were sent, and the server was not behind afterwards. */
  readonly held: boolean
  readonly usage: Usage
}

function summary(slices: ReadonlyArray<Slice>) {
  const p50 = median(slices.map((slice) => slice.p50))
  const p99 = median(slices.map((slice) => slice.p99))
  const held = slices.every((slice) => slice.held)
  return { p99, held, text: `${milliseconds(p99)} (${milliseconds(p50)})${held ? "" : ", fell behind"}` }
}
