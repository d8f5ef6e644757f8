/** The whole view of a gateway with 5,000 agents and 5,000 tunnels: again, and right after a change. */
import { formatUsage, type Scenario, type Usage } from "#bench/support/Bench.ts"
import { ChangeWriter } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"
import type { ConnectResult } from "#bench/support/ClientGroup.ts"
import { median } from "#bench/support/quantiles.ts"
import { kilobytes, milliseconds } from "#bench/support/table.ts"

interface Joined {
  readonly opened: ConnectResult
  readonly usage: Usage
}

export const config: Scenario = {
  name: "config",
  description: "config of 5,000 agents and 5,000 tunnels, again and right after a change",
  timeoutMillis: 240_000,
  run: async (bench) => {
    const times = bench.repetitions(40, 12)
    const network = await bench.createNetwork({ agents: 5_000, gateways: 2 + 2 * 50, tunnels: 5_000 })
    const control = await bench.startControl(network)
    const raw = await bench.startBareServer()
    const [watcher = "", ...keys] = network.gatewayKeys
    const { configBytes, firstConfig } = await bench.connectClients("watcher", control, "gateway", [watcher])
    await raw.commands.call("configure", { text: firstConfig, encodeEach: false })
    const changes = new ChangeWriter(bench, "watcher")
    let used = 0

    const once = async (server: typeof control | typeof raw): Promise<Joined> => {
      const key = keys[used % keys.length] ?? ""
      used += 1
      const [opened, usage] = await bench.measure(server, () => bench.connectClients("one", server, "gateway", [key]))
      await bench.loadGenerator.call("close", "one")
      // The end of the connection is not part of the next one's beginning.
      await sleep(60)
      return { opened, usage }
    }
    const repeat = async (server: typeof control | typeof raw, work: () => Promise<Joined>, profile?: string) => {
      const joined: Array<Joined> = []
      await bench.measure(server, async () => {
        for (let index = 0; index < times + 5; index += 1) joined.push(await work())
      }, profile)
      return joined.slice(5)
    }
    const report = (
      what: string,
      ours: ReadonlyArray<Joined>,
      theirs: ReadonlyArray<Joined>,
      goal: { most: number; of: string }
    ) => {
      const of = (joined: ReadonlyArray<Joined>) => ({
        millis: median(joined.map(({ opened }) => opened.p50)),
        cpu: joined.reduce((sum, { usage }) => sum + usage.serverMillis, 0) / joined.length
      })
      const [our, their] = [of(ours), of(theirs)]
      const use = formatUsage((ours.at(-1) as Joined).usage)
      bench.addRow({
        label: `config of 5,000 + 5,000 (${kilobytes(configBytes)}), ${what}: connect to config, p50`,
        control: milliseconds(our.millis),
        bare: milliseconds(their.millis),
        ratio: our.millis / their.millis,
        usage: use
      })
      bench.addRow({
        label: `config of 5,000 + 5,000, ${what}: CPU`,
        control: milliseconds(our.cpu),
        bare: milliseconds(their.cpu),
        ratio: our.cpu / their.cpu,
        goal: `${goal.most} x ${goal.of}`,
        isMet: our.cpu / their.cpu <= goal.most,
        usage: use
      })
    }

    const again = {
      control: await repeat(control, () => once(control), "again"),
      raw: await repeat(raw, () => once(raw))
    }
    report("again", again.control, again.raw, { most: 2, of: "raw's cached one" })
    const afterChange = await repeat(control, async () => {
      await changes.updateBySql(network, 1)
      await sleep(20)
      return once(control)
    }, "after-change")
    await raw.commands.call("configure", { text: firstConfig, encodeEach: true })
    report("right after a change", afterChange, await repeat(raw, () => once(raw)), {
      most: 1,
      of: "raw's re-encoding"
    })
  }
}
