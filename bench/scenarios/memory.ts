/** Measures the memory that an idle authenticated connection keeps. */
import type { Scenario } from "#bench/support/BenchRun.ts"
import { sleep } from "#bench/support/timing.ts"
import { kilobytes } from "#bench/support/resultTable.ts"

const clients = 5_000

export const memory: Scenario = {
  name: "memory",
  description: "memory of 5,000 idle connections",
  timeoutMillis: 120_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents: clients + 500, gateways: 20, tunnels: clients })
    const control = await bench.startControl(network)
    const bareServer = await bench.startBareServer()

    const measureGrowth = async (server: typeof control | typeof bareServer, name: string) => {
      // The first connections load and compile code. The measurement excludes that memory from the growth.
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
    const ofControl = await measureGrowth(control, "control")
    await bareServer.commands.call("configure", { text: ofControl.firstConfig, encodeEach: false })
    const ofBareServer = await measureGrowth(bareServer, "bare")
    // Resident memory grows less than the heap when the process reuses pages left from its start.
    // The larger of the two is closer to the true memory of a connection.
    const [controlBytes, bareBytes] = [
      Math.max(ofControl.resident, ofControl.heap),
      Math.max(ofBareServer.resident, ofBareServer.heap)
    ]
    bench.addRow({
      label: "idle connection: growth of resident memory or heap, the larger",
      control: kilobytes(controlBytes),
      bare: kilobytes(bareBytes),
      ratio: controlBytes / bareBytes,
      goal: "2.5 x bare",
      isMet: controlBytes / bareBytes <= 2.5,
      usage: `${Math.round(ofControl.total / 1e6)} MB in total, bare server ${Math.round(ofBareServer.total / 1e6)} MB`
    })
    for (const what of ["resident", "heap"] as const) {
      bench.addRow({
        label: `idle connection: ${what} alone`,
        control: kilobytes(ofControl[what]),
        bare: kilobytes(ofBareServer[what]),
        ratio: ofControl[what] / ofBareServer[what]
      })
    }
  }
}
