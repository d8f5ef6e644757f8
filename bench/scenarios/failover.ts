/** Kills one of two nodes: its 5,000 clients reconnect to the other node at once. */
import { formatUsage, type Scenario } from "#bench/support/BenchRun.ts"
import { ChangeWriter, waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { now, sleep } from "#bench/support/timing.ts"
import type { Network } from "#bench/support/BenchDatabase.ts"
import { median } from "#bench/support/quantiles.ts"
import { milliseconds } from "#bench/support/resultTable.ts"

const clients = 5_000
const gateways = 20

/** These clients do not reconnect, so presence must show them as offline. */
const departed = 500

const maxPendingUpgrades = 400

export const failover: Scenario = {
  name: "failover",
  description: `one of two nodes is killed: ${clients} clients reconnect to the other, ${departed} do not return`,
  timeoutMillis: 300_000,
  run: async (bench) => {
    const network = await bench.createNetwork({ agents: clients + departed, gateways, tunnels: clients })
    const configMillis: Array<number> = []
    const configP99: Array<number> = []
    const onlineMillis: Array<number> = []
    const offlineMillis: Array<number> = []
    let usageText = ""
    const survivor = await bench.startControl(network)
    await bench.connectClients("gateways", survivor, "gateway", network.gatewayKeys)
    const gatewayChanges = new ChangeWriter(bench, "gateways")
    for (let round = 0; round < bench.repetitions(3, 1); round += 1) {
      const victim = await bench.startControl(network)
      await bench.connectClients("returning", victim, "agent", network.agentKeys.slice(0, clients), maxPendingUpgrades)
      await bench.connectClients("departed", victim, "agent", network.agentKeys.slice(clients), maxPendingUpgrades)
      await waitUntilIdle(victim)
      await victim.kill()
      const killedAt = now()
      await bench.loadGenerator.call("close", "returning")
      await bench.loadGenerator.call("close", "departed")
      const [connected, usage] = await bench.measure(survivor, async () => {
        const joined = bench.connectClients(
          "returning",
          survivor,
          "agent",
          network.agentKeys.slice(0, clients),
          maxPendingUpgrades
        )
        // The surviving node must serve its own gateways at the same time.
        await gatewayChanges.updateBySql(network, 100)
        return joined
      }, `${round}`)
      configMillis.push(connected.millis)
      configP99.push(connected.p99)
      usageText = formatUsage(usage)
      await waitUntil(async () => await onlineAgents(network) >= clients)
      onlineMillis.push(now() - killedAt)
      await waitUntil(async () => await onlineAgents(network) === clients)
      offlineMillis.push(now() - killedAt)
      await bench.loadGenerator.call("close", "returning")
      await waitUntilIdle(survivor)
    }
    const addRow = (
      what: string,
      millis: ReadonlyArray<number>,
      goal?: { readonly text: string; readonly maxMillis: number }
    ) =>
      bench.addRow({
        label: `one of two nodes killed: ${what}`,
        control: `${milliseconds(median(millis))} (worst of ${millis.length}: ${milliseconds(Math.max(...millis))})`,
        bare: "",
        ...(goal && { goal: goal.text, isMet: Math.max(...millis) <= goal.maxMillis }),
        usage: usageText
      })
    addRow(`until the last of ${clients} has its config`, configMillis, { text: "30 s", maxMillis: 30_000 })
    addRow("a client's connect to its config, p99", configP99)
    addRow(`until all ${clients} are shown online`, onlineMillis)
    addRow(`until the ${departed} that do not return are shown offline`, offlineMillis, {
      text: "15 s",
      maxMillis: 15_000
    })
  }
}

async function onlineAgents(network: Network): Promise<number> {
  const [row] = await network.query("select count(*)::int as online from agents where status = 'online'")
  return Number(row?.["online"])
}

async function waitUntil(condition: () => Promise<boolean>): Promise<void> {
  const deadline = now() + 100_000
  while (!(await condition())) {
    if (now() > deadline) throw new Error("presence was still wrong after 100 s")
    await sleep(100)
  }
}
