/** Measures a gateway's snapshot of 5,000 agents and 5,000 tunnels: repeatedly, and right after a change. */
import { formatUsage, type Scenario, type Usage } from "#bench/support/BenchRun.ts"
import { ChangeWriter } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/timing.ts"
import type { ConnectResult } from "#bench/support/ClientGroup.ts"
import { median } from "#bench/support/quantiles.ts"
import { kilobytes, milliseconds } from "#bench/support/resultTable.ts"

interface Connection {
  readonly connected: ConnectResult
  readonly usage: Usage
}

export const config: Scenario = {
  name: "config",
  description: "config of 5,000 agents and 5,000 tunnels, repeatedly and right after a change",
  timeoutMillis: 240_000,
  run: async (bench) => {
    const repetitions = bench.repetitions(40, 12)
    const network = await bench.createNetwork({ agents: 5_000, gateways: 2 + 2 * 50, tunnels: 5_000 })
    const control = await bench.startControl(network)
    const bareServer = await bench.startBareServer()
    const [observer = "", ...keys] = network.gatewayKeys
    const { configBytes, firstConfig } = await bench.connectClients("observer", control, "gateway", [observer])
    await bareServer.commands.call("configure", { text: firstConfig, encodeEach: false })
    const changes = new ChangeWriter(bench, "observer")
    let usedKeys = 0

    const connectOnce = async (server: typeof control | typeof bareServer): Promise<Connection> => {
      const key = keys[usedKeys % keys.length] ?? ""
      usedKeys += 1
      const [connected, usage] = await bench.measure(
        server,
        () => bench.connectClients("one", server, "gateway", [key])
      )
      await bench.loadGenerator.call("close", "one")
      // The server finishes closing this connection before the next measurement.
      await sleep(60)
      return { connected, usage }
    }
    const repeat = async (
      server: typeof control | typeof bareServer,
      work: () => Promise<Connection>,
      profile?: string
    ) => {
      const connections: Array<Connection> = []
      await bench.measure(server, async () => {
        for (let index = 0; index < repetitions + 5; index += 1) connections.push(await work())
      }, profile)
      return connections.slice(5)
    }
    const report = (
      what: string,
      controlRuns: ReadonlyArray<Connection>,
      bareRuns: ReadonlyArray<Connection>,
      goal: { maxRatio: number; text: string }
    ) => {
      const summarize = (connections: ReadonlyArray<Connection>) => ({
        millis: median(connections.map(({ connected }) => connected.p50)),
        cpu: connections.reduce((sum, { usage }) => sum + usage.serverMillis, 0) / connections.length
      })
      const [ofControl, ofBareServer] = [summarize(controlRuns), summarize(bareRuns)]
      const usageText = formatUsage((controlRuns.at(-1) as Connection).usage)
      bench.addRow({
        label: `config of 5,000 + 5,000 (${kilobytes(configBytes)}), ${what}: connect to config, p50`,
        control: milliseconds(ofControl.millis),
        bare: milliseconds(ofBareServer.millis),
        ratio: ofControl.millis / ofBareServer.millis,
        usage: usageText
      })
      bench.addRow({
        label: `config of 5,000 + 5,000, ${what}: CPU`,
        control: milliseconds(ofControl.cpu),
        bare: milliseconds(ofBareServer.cpu),
        ratio: ofControl.cpu / ofBareServer.cpu,
        goal: `${goal.maxRatio} x ${goal.text}`,
        isMet: ofControl.cpu / ofBareServer.cpu <= goal.maxRatio,
        usage: usageText
      })
    }

    const repeated = {
      control: await repeat(control, () => connectOnce(control), "repeated"),
      bareServer: await repeat(bareServer, () => connectOnce(bareServer))
    }
    report("repeated", repeated.control, repeated.bareServer, { maxRatio: 2, text: "bare with a cached text" })
    const afterChange = await repeat(control, async () => {
      await changes.updateBySql(network, 1)
      await sleep(20)
      return connectOnce(control)
    }, "after-change")
    await bareServer.commands.call("configure", { text: firstConfig, encodeEach: true })
    report("right after a change", afterChange, await repeat(bareServer, () => connectOnce(bareServer)), {
      maxRatio: 1,
      text: "bare with encoding"
    })
  }
}
