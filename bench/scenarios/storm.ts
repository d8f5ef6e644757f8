/** Measures 5,000 agents that connect, authenticate and receive their config at once. */
import { formatUsage, type Scenario, type Usage } from "#bench/support/BenchRun.ts"
import { waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/timing.ts"
import type { ConnectResult } from "#bench/support/ClientGroup.ts"
import { median } from "#bench/support/quantiles.ts"
import { kilobytes, microseconds, milliseconds } from "#bench/support/resultTable.ts"

const clients = 5_000

/** Below Node's listen backlog of 511. A dropped SYN would measure TCP's retry after 1 s. */
const maxPendingUpgrades = 400

interface Storm {
  readonly connected: ConnectResult
  readonly usage: Usage
}

export const storm: Scenario = {
  name: "storm",
  description: "5,000 agents connect, authenticate and receive their config",
  timeoutMillis: 240_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents: clients, gateways: 20, tunnels: clients })
    const control = await bench.startControl(network)
    const bareServer = await bench.startBareServer()
    const rounds = bench.repetitions(4, 2)
    const controlStorms: Array<Storm> = []
    const bareStorms: Array<Storm> = []

    const measureStorm = async (
      server: typeof control | typeof bareServer,
      name: string,
      profile?: string
    ): Promise<Storm> => {
      const [connected, usage] = await bench.measure(server, async () => {
        const result = await bench.connectClients(name, server, "agent", network.agentKeys, maxPendingUpgrades)
        await waitUntilIdle(server)
        return result
      }, profile)
      await bench.loadGenerator.call("close", name)
      await waitUntilIdle(server)
      await sleep(1_000)
      return { connected, usage }
    }
    for (let round = 0; round < rounds; round += 1) {
      const controlStorm = await measureStorm(control, "control", round === 1 ? "all" : undefined)
      controlStorms.push(controlStorm)
      if (round === 0)
        await bareServer.commands.call("configure", { text: controlStorm.connected.firstConfig, encodeEach: false })
      bareStorms.push(await measureStorm(bareServer, "bare"))
    }
    const [first] = controlStorms as [Storm]
    bench.log(
      `cold, right after the start: ${milliseconds(first.connected.millis)}, CPU per client ${
        microseconds(first.usage.serverMillis / clients)
      }`
    )

    const summarizeWarm = (storms: ReadonlyArray<Storm>) => {
      const warmStorms = storms.slice(1)
      return {
        millis: median(warmStorms.map(({ connected }) => connected.millis)),
        p99: median(warmStorms.map(({ connected }) => connected.p99)),
        cpu: median(warmStorms.map(({ usage }) => usage.serverMillis)) / clients,
        cpuWithDatabase: median(warmStorms.map(({ usage }) => usage.serverMillis + (usage.databaseMillis ?? 0))) /
          clients,
        transactions: median(warmStorms.map(({ usage }) => usage.transactions)) / clients
      }
    }
    const [controlStorm, bareStorm] = [summarizeWarm(controlStorms), summarizeWarm(bareStorms)]
    const usageText = formatUsage((controlStorms.at(-1) as Storm).usage)
    bench.addRow({
      label: `storm of ${clients}: until the last client has its config (${kilobytes(first.connected.configBytes)})`,
      control: milliseconds(controlStorm.millis),
      bare: milliseconds(bareStorm.millis),
      ratio: controlStorm.millis / bareStorm.millis,
      usage: usageText
    })
    bench.addRow({
      label: `storm of ${clients}: CPU per client`,
      control: microseconds(controlStorm.cpu),
      bare: microseconds(bareStorm.cpu),
      ratio: controlStorm.cpu / bareStorm.cpu,
      goal: "2.3 x bare",
      isMet: controlStorm.cpu / bareStorm.cpu <= 2.3,
      usage: usageText
    })
    bench.addRow({
      label: `storm of ${clients}: CPU per client, with the database`,
      control: microseconds(controlStorm.cpuWithDatabase),
      bare: microseconds(bareStorm.cpu),
      ratio: controlStorm.cpuWithDatabase / bareStorm.cpu,
      usage: usageText
    })
    bench.addRow({
      label: `storm of ${clients}: write transactions per client`,
      control: controlStorm.transactions.toPrecision(2),
      bare: "0",
      goal: "0.02",
      isMet: controlStorm.transactions <= 0.02,
      usage: usageText
    })
  }
}
