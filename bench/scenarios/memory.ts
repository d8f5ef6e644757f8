/** What an idle authenticated connection keeps. */
import type { Scenario } from "#bench/support/Bench.ts"
import { sleep } from "#bench/support/clock.ts"
import { kilobytes } from "#bench/support/table.ts"

const clients = 5_000

export const memory: Scenario = {
  name: "memory",
  description: "memory of 5,000 idle connections",
  timeoutMillis: 120_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents: clients + 500, gateways: 20, tunnels: clients })
    const control = await bench.startControl(network)
    const raw = await bench.startBareServer()

    const each = async (server: typeof control | typeof raw, name: string) => {
      // What the first connections load and compile is not theirs.
      const { firstConfig } = await bench.connectClients(
        `${name} first`,
        server,
        "agent",
        network.agentKeys.slice(clients),
        20
      )
      await sleep(6_000)
      const before = await server.probe.call("memory", undefined as never)
      await bench.connectClients(name, server, "agent", network.agentKeys.slice(0, clients), 20)
      await sleep(6_000)
      const after = await server.probe.call("memory", undefined as never)
      await bench.loadGenerator.call("close", name)
      return {
        firstConfig,
        resident: (after.resident - before.resident) / clients,
        heap: (after.heap - before.heap) / clients,
        total: after.resident
      }
    }
    const ours = await each(control, "control")
    await raw.commands.call("configure", { text: ours.firstConfig, encodeEach: false })
    const theirs = await each(raw, "raw")
    // What is resident grows by less than the heap where the process fills pages that it had left over from its start: the
    // larger of the two is nearer to what a connection keeps.
    const [our, their] = [Math.max(ours.resident, ours.heap), Math.max(theirs.resident, theirs.heap)]
    bench.addRow({
      label: "idle connection: growth of resident memory or of the heap, whichever is more",
      control: kilobytes(our),
      bare: kilobytes(their),
      ratio: our / their,
      goal: "2.5 x raw",
      isMet: our / their <= 2.5,
      usage: `${Math.round(ours.total / 1e6)} MB in all, the bare server ${Math.round(theirs.total / 1e6)} MB`
    })
    for (const what of ["resident", "heap"] as const) {
      bench.addRow({
        label: `idle connection: ${what} alone`,
        control: kilobytes(ours[what]),
        bare: kilobytes(theirs[what]),
        ratio: ours[what] / theirs[what]
      })
    }
  }
}
