/** Measures the latency of changes at increasing heartbeat rates. */
import { formatUsage, type Scenario, type Usage } from "#bench/support/BenchRun.ts"
import { type ChangeResult, ChangeWriter, waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { now, sleep } from "#bench/support/timing.ts"
import { median, quantile } from "#bench/support/quantiles.ts"
import { tunnelDelta } from "#bench/support/servers.ts"
import { milliseconds, thousands } from "#bench/support/resultTable.ts"

/** A server written from the sample code of the specification ("naive") reached 4,000 to 8,000. */
const goalPerSecond = 16_000

export const sustained: Scenario = {
  name: "sustained",
  description: "fan-out to 1,000 gateways while they send 4,000 to 33,000 heartbeats per second",
  timeoutMillis: 400_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents: 50, gateways: 1_000, tunnels: 500 })
    const control = await bench.startControl(network)
    const bareServer = await bench.startBareServer()
    const [tunnel] = network.tunnels
    if (tunnel !== undefined) await bareServer.commands.call("setTunnel", tunnelDelta(tunnel))
    await bench.connectClients("control", control, "gateway", network.gatewayKeys)
    await bench.connectClients("bare", bareServer, "gateway", network.gatewayKeys)
    await sleep(1_000)
    const controlChanges = new ChangeWriter(bench, "control")
    const bareChanges = new ChangeWriter(bench, "bare")
    const seconds = bench.repetitions(5, 3)

    const measureAtRate = async (
      server: typeof control | typeof bareServer,
      name: string,
      perSecond: number,
      change: () => Promise<ChangeResult>
    ): Promise<Slice> => {
      const last: Array<number> = []
      const [heartbeats, usage] = await bench.measure(server, async () => {
        const sending = perSecond === 0
          ? Promise.resolve({ sent: 0, millis: seconds * 1_000 })
          : bench.loadGenerator.call("sendHeartbeats", { name, perSecond, seconds }, (seconds + 20) * 1_000)
        const endsAt = now() + seconds * 1_000
        while (now() < endsAt) {
          last.push((await change()).receiptTimes.last)
          await sleep(40)
        }
        return sending
      }, name === "control" && perSecond > 0 ? `${perSecond}` : undefined)
      const idleAfterMillis = await waitUntilIdle(server)
      const keptUp = heartbeats.sent >= 0.98 * perSecond * seconds && idleAfterMillis < 1_500
      return { p50: quantile(last, 0.5), p99: quantile(last, 0.99), keptUp, usage }
    }

    const rates = bench.quick ? [0, 16_000] : [0, 4_000, 8_000, 16_000, 24_000, 33_000]
    const slices = new Map(
      rates.map((perSecond) => [perSecond, { controlSlices: Array<Slice>(), bareSlices: Array<Slice>() }])
    )
    // Every round visits all rates, so that a disturbance affects one slice of a rate and not all of them.
    for (let round = 0; round < bench.repetitions(3, 1); round += 1) {
      for (const [perSecond, { controlSlices, bareSlices }] of slices) {
        controlSlices.push(
          await measureAtRate(control, "control", perSecond, () => controlChanges.updateBySql(network, 1))
        )
        bareSlices.push(
          await measureAtRate(bareServer, "bare", perSecond, () => bareChanges.commandBareServer(bareServer, 1))
        )
      }
    }

    let highestRate = 0
    let isWithinGoal = true
    const p99AtRest = summarize(slices.get(0)?.controlSlices ?? []).p99
    for (const [perSecond, { controlSlices, bareSlices }] of slices) {
      const [ofControl, ofBareServer] = [summarize(controlSlices), summarize(bareSlices)]
      // A rate counts only if every lower rate has passed, because one lucky slice proves nothing.
      isWithinGoal &&= ofControl.keptUp && ofControl.p99 <= 2 * p99AtRest
      if (isWithinGoal) highestRate = perSecond
      bench.addRow({
        label: `${thousands(perSecond)} heartbeats per second: change to last receipt, p99 (p50)`,
        control: ofControl.text,
        bare: ofBareServer.text,
        ratio: ofControl.p99 / ofBareServer.p99,
        usage: controlSlices[0] === undefined ? "" : formatUsage(controlSlices[0].usage)
      })
    }
    bench.addRow({
      label: "highest heartbeat rate with p99 within twice that at rest",
      control: thousands(highestRate),
      bare: "",
      goal: `${thousands(goalPerSecond)} (4 x naive)`,
      isMet: highestRate >= goalPerSecond
    })
  }
}

interface Slice {
  readonly p50: number
  readonly p99: number
  /** At least 98 % of the heartbeats were sent, and the server was idle again within 1.5 s. */
  readonly keptUp: boolean
  readonly usage: Usage
}

function summarize(slices: ReadonlyArray<Slice>) {
  const p50 = median(slices.map((slice) => slice.p50))
  const p99 = median(slices.map((slice) => slice.p99))
  const keptUp = slices.every((slice) => slice.keptUp)
  return { p99, keptUp, text: `${milliseconds(p99)} (${milliseconds(p50)})${keptUp ? "" : ", fell behind"}` }
}
