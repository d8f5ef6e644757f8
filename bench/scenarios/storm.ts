/** 5,000 agents connect, authenticate and get their config at once. */
import { inWords, type Scenario, type Usage } from "#bench/support/Bench.ts"
import { settled } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"
import type { Opened } from "#bench/support/ClientGroup.ts"
import { median } from "#bench/support/quantiles.ts"
import { kilobytes, microseconds, milliseconds } from "#bench/support/table.ts"

const clients = 5_000

/** Below the listen backlog that Node asks for (511): a SYN that is dropped would measure TCP's retry after a second. */
const window = 400

interface Storm {
  readonly opened: Opened
  readonly usage: Usage
}

export const storm: Scenario = {
  name: "storm",
  about: "5,000 agents connect, authenticate and get their config",
  timeoutMillis: 240_000,
  run: async (bench) => {
    const network = await bench.network({ agents: clients, gateways: 20, tunnels: clients })
    const control = await bench.control(network)
    const raw = await bench.raw()
    const rounds = bench.times(4, 2)
    const ours: Array<Storm> = []
    const theirs: Array<Storm> = []

    const once = async (server: typeof control | typeof raw, name: string, profile?: string): Promise<Storm> => {
      const [opened, usage] = await bench.measure(server, async () => {
        const result = await bench.join(name, server, "agent", network.agentKeys, window)
        await settled(server)
        return result
      }, profile)
      await bench.load.call("close", name)
      await settled(server)
      await sleep(1_000)
      return { opened, usage }
    }
    for (let round = 0; round < rounds; round += 1) {
      const our = await once(control, "control", round === 1 ? "all" : undefined)
      ours.push(our)
      if (round === 0) await raw.raw.call("configure", { text: our.opened.sample, encodeEach: false })
      theirs.push(await once(raw, "raw"))
    }
    const [first] = ours as [Storm]
    bench.note(
      `cold, right after the start: ${milliseconds(first.opened.millis)}, ${
        microseconds(first.usage.server / clients)
      } for each`
    )

    const warm = (storms: ReadonlyArray<Storm>) => {
      const rest = storms.slice(1)
      return {
        millis: median(rest.map(({ opened }) => opened.millis)),
        p99: median(rest.map(({ opened }) => opened.p99)),
        cpu: median(rest.map(({ usage }) => usage.server)) / clients,
        both: median(rest.map(({ usage }) => usage.server + (usage.database ?? 0))) / clients,
        transactions: median(rest.map(({ usage }) => usage.transactions)) / clients
      }
    }
    const [our, their] = [warm(ours), warm(theirs)]
    const use = inWords((ours.at(-1) as Storm).usage)
    bench.row({
      what: `storm of ${clients}: until the last has its config (${kilobytes(first.opened.configBytes)})`,
      control: milliseconds(our.millis),
      raw: milliseconds(their.millis),
      ratio: our.millis / their.millis,
      use
    })
    bench.row({
      what: `storm of ${clients}: CPU for each client`,
      control: microseconds(our.cpu),
      raw: microseconds(their.cpu),
      ratio: our.cpu / their.cpu,
      reach: "2.3 x raw",
      met: our.cpu / their.cpu <= 2.3,
      use
    })
    bench.row({
      what: `storm of ${clients}: CPU for each client with the database's`,
      control: microseconds(our.both),
      raw: microseconds(their.cpu),
      ratio: our.both / their.cpu,
      use
    })
    bench.row({
      what: `storm of ${clients}: write transactions for each client`,
      control: our.transactions.toPrecision(2),
      raw: "0",
      reach: "0.02",
      met: our.transactions <= 0.02,
      use
    })
  }
}
