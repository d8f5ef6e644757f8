/** 5,000 agents connect, authenticate and get their config at once. */
import { formatUsage, type Scenario, type Usage } from "#bench/support/Bench.ts"
import { waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"
import type { ConnectResult } from "#bench/support/ClientGroup.ts"
import { median } from "#bench/support/quantiles.ts"
import { kilobytes, microseconds, milliseconds } from "#bench/support/table.ts"

const clients = 5_000

/** Below the listen backlog that Node asks for (511): a SYN that is dropped would measure TCP's retry after a second. */
const window = 400

interface Storm {
  readonly opened: ConnectResult
  readonly usage: Usage
}

export const storm: Scenario = {
  name: "storm",
  description: "5,000 agents connect, authenticate and get their config",
  timeoutMillis: 240_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents: clients, gateways: 20, tunnels: clients })
    const control = await bench.startControl(network)
    const raw = await bench.startBareServer()
    const rounds = bench.repetitions(4, 2)
    const ours: Array<Storm> = []
    const theirs: Array<Storm> = []

    const once = async (server: typeof control | typeof raw, name: string, profile?: string): Promise<Storm> => {
      const [opened, usage] = await bench.measure(server, async () => {
        const result = await bench.connectClients(name, server, "agent", network.agentKeys, window)
        await waitUntilIdle(server)
        return result
      }, profile)
      await bench.loadGenerator.call("close", name)
      await waitUntilIdle(server)
      await sleep(1_000)
      return { opened, usage }
    }
    for (let round = 0; round < rounds; round += 1) {
      const our = await once(control, "control", round === 1 ? "all" : undefined)
      ours.push(our)
      if (round === 0) await raw.commands.call("configure", { text: our.opened.firstConfig, encodeEach: false })
      theirs.push(await once(raw, "raw"))
    }
    const [first] = ours as [Storm]
    bench.log(
      `cold, right after the start: ${milliseconds(first.opened.millis)}, ${
        microseconds(first.usage.serverMillis / clients)
      } for each`
    )

    const warm = (storms: ReadonlyArray<Storm>) => {
      const rest = storms.slice(1)
      return {
        millis: median(rest.map(({ opened }) => opened.millis)),
        p99: median(rest.map(({ opened }) => opened.p99)),
        cpu: median(rest.map(({ usage }) => usage.serverMillis)) / clients,
        both: median(rest.map(({ usage }) => usage.serverMillis + (usage.databaseMillis ?? 0))) / clients,
        transactions: median(rest.map(({ usage }) => usage.transactions)) / clients
      }
    }
    const [our, their] = [warm(ours), warm(theirs)]
    const use = formatUsage((ours.at(-1) as Storm).usage)
    bench.addRow({
      label: `storm of ${clients}: until the last has its config (${kilobytes(first.opened.configBytes)})`,
      control: milliseconds(our.millis),
      bare: milliseconds(their.millis),
      ratio: our.millis / their.millis,
      usage: use
    })
    bench.addRow({
      label: `storm of ${clients}: CPU for each client`,
      control: microseconds(our.cpu),
      bare: microseconds(their.cpu),
      ratio: our.cpu / their.cpu,
      goal: "2.3 x raw",
      isMet: our.cpu / their.cpu <= 2.3,
      usage: use
    })
    bench.addRow({
      label: `storm of ${clients}: CPU for each client with the database's`,
      control: microseconds(our.both),
      bare: microseconds(their.cpu),
      ratio: our.both / their.cpu,
      usage: use
    })
    bench.addRow({
      label: `storm of ${clients}: write transactions for each client`,
      control: our.transactions.toPrecision(2),
      bare: "0",
      goal: "0.02",
      isMet: our.transactions <= 0.02,
      usage: use
    })
  }
}
