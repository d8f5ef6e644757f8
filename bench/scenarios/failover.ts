/** Two nodes; one is killed, and its 5,000 clients come to the other at once. */
import { formatUsage, type Scenario } from "#bench/support/Bench.ts"
import { ChangeWriter, waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { now, sleep } from "#bench/support/clock.ts"
import type { Network } from "#bench/support/Database.ts"
import { median } from "#bench/support/quantiles.ts"
import { milliseconds } from "#bench/support/table.ts"

const clients = 5_000
const gateways = 20

/** They do not come back, and have to be shown offline. */
const gone = 500

const window = 400

export const failover: Scenario = {
  name: "failover",
  description: `one of two nodes is killed: ${clients} clients come back to the other, ${gone} do not come back`,
  timeoutMillis: 300_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents: clients + gone, gateways, tunnels: clients })
    const ready: Array<number> = []
    const p99: Array<number> = []
    const present: Array<number> = []
    const offline: Array<number> = []
    let use = ""
    const staying = await bench.startControl(network)
    await bench.connectClients("gateways", staying, "gateway", network.gatewayKeys)
    const toGateways = new ChangeWriter(bench, "gateways")
    for (let round = 0; round < bench.repetitions(3, 1); round += 1) {
      const dying = await bench.startControl(network)
      await bench.connectClients("staying", dying, "agent", network.agentKeys.slice(0, clients), window)
      await bench.connectClients("gone", dying, "agent", network.agentKeys.slice(clients), window)
      await waitUntilIdle(dying)
      await dying.kill()
      const killedAt = now()
      await bench.loadGenerator.call("close", "staying")
      await bench.loadGenerator.call("close", "gone")
      const [opened, usage] = await bench.measure(staying, async () => {
        const joined = bench.connectClients("staying", staying, "agent", network.agentKeys.slice(0, clients), window)
        // Others are served meanwhile.
        await toGateways.updateBySql(network, 100)
        return joined
      }, `${round}`)
      ready.push(opened.millis)
      p99.push(opened.p99)
      use = formatUsage(usage)
      await until(async () => await online(network) >= clients)
      present.push(now() - killedAt)
      await until(async () => await online(network) === clients)
      offline.push(now() - killedAt)
      await bench.loadGenerator.call("close", "staying")
      await waitUntilIdle(staying)
    }
    const row = (
      what: string,
      of: ReadonlyArray<number>,
      more: { readonly reach: string; readonly most: number } | undefined
    ) =>
      bench.addRow({
        label: `one of two nodes is killed, ${clients} clients at once: ${what}`,
        control: `${milliseconds(median(of))} (worst of ${of.length}: ${milliseconds(Math.max(...of))})`,
        bare: "",
        ...(more && { goal: more.reach, isMet: Math.max(...of) <= more.most }),
        usage: use
      })
    row("until the last has its config", ready, { reach: "30 s", most: 30_000 })
    row("from a client's connect to its config, p99", p99, undefined)
    row("from the kill until all of them are shown online", present, undefined)
    row(`from the kill until the ${gone} that stay away are shown offline`, offline, { reach: "15 s", most: 15_000 })
  }
}

async function online(network: Network): Promise<number> {
  const [row] = await network.query("select count(*)::int as online from agents where status = 'online'")
  return Number(row?.["online"])
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = now() + 100_000
  while (!(await condition())) {
    if (now() > deadline) throw new Error("presence was not right after 100 seconds")
    await sleep(100)
  }
}
