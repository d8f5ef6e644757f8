/** F17, F18, F20, F30: one of two nodes is paused, killed, restarted, or cut off from the database. */
import { now, sleep } from "#bench/support/timing.ts"
import type { Close } from "#faults/ClientFleet.ts"
import type { ControlNode } from "#faults/ControlNode.ts"
import { pollErrors, presenceErrors, summarize, withWriters } from "#faults/checkGuarantees.ts"
import { tryLogin } from "#faults/tryLogin.ts"
import type { TestCluster } from "#faults/TestCluster.ts"
import type { Fault, FaultRun } from "#faults/FaultRun.ts"
import { formatSeconds, requireWithin, Sampler, waitUntil } from "#faults/waitUntil.ts"
import type { WebSocket } from "ws"

/** Distributes the clients over both nodes, whatever earlier faults have changed. */
const spreadClients = async (cluster: TestCluster): Promise<void> => {
  for (const client of cluster.fleet.clients) client.ports = cluster.clientProxies.map(({ port }) => port)
  await cluster.waitUntilCalm()
}

/** State of the named node as the asked node reports it, such as `live` or `lost`. */
const stateOf = async (asked: ControlNode, name: string): Promise<string | undefined> => {
  const { body } = await asked.operator.get("/api/nodes")
  const states: ReadonlyArray<{ readonly name: string; readonly state: string }> = body.items ?? []
  return states.findLast((each) => each.name === name)?.state
}

/** Waits until the second node reports the expected state of the first one. */
const waitForState = async (run: FaultRun, cluster: TestCluster, wanted: string): Promise<void> => {
  const [, other] = cluster.nodes
  if (other === undefined) throw new Error("the cluster has only one node")
  const took = await waitUntil(20_000 * run.timeFactor, async () => await stateOf(other, firstName) === wanted)
  run.check(took !== undefined, `the other node reports ${await stateOf(other, firstName)}, not ${wanted}`)
  if (took !== undefined) run.observe(`${wanted} at the other node ${formatSeconds(took)} later`)
}

/** Lifetime of a lease without renewal. */
const leaseMillis = 15_000

/** CONTROL_NODE_NAME of the first node. */
const firstName = "node-1"

const pausedNode: Fault = {
  id: "F17",
  name: "Paused node",
  injected: "SIGSTOP of one of two nodes for 5 s and for 30 s (five heartbeat timeouts, two leases)",
  expected:
    "no client evicted, because the node was silent itself; `GET /api/nodes` reports lost, then live; presence correct within 15 s",
  nodes: 2,
  execute: async (run, cluster) => {
    await spreadClients(cluster)
    for (const millis of cluster.options.clients < 100 ? [8_000] : [5_000, 30_000]) {
      // Clients must not leave by themselves, because their silence would then justify an eviction.
      for (const client of cluster.fleet.clients) client.maxSilentIntervals = Infinity
      await withWriters(run, cluster, async () => {
        for (const client of cluster.fleet.clients) client.maxSilentIntervals = Infinity
        cluster.node.signal("SIGSTOP")
        await sleep(millis)
        const isLong = millis > leaseMillis
        if (isLong) await waitForState(run, cluster, "lost")
        cluster.node.signal("SIGCONT")
        if (isLong) await waitForState(run, cluster, "live")
        await requireWithin("the node answers again", 10_000, () => cluster.node.isReady())
        await sleep(2_000)
      }, { presenceMillis: 15_000 })
      const evicted = cluster.fleet.closes.length
      run.observe(`${formatSeconds(millis)}: ${evicted} closed`)
      run.check(evicted === 0, `connections were closed: ${cluster.fleet.closesByCode()}`)
    }
  }
}

const killedNode: Fault = {
  id: "F18",
  name: "Killed node with clients",
  injected: "SIGKILL of one of two nodes with connected clients",
  expected:
    "its clients connect to the other node at once, at most a third of them within 0.1 s; presence correct within 25 s, while the node is still down",
  nodes: 2,
  execute: async (run, cluster) => {
    await spreadClients(cluster)
    let moved: ReadonlyArray<Close> = []
    await withWriters(run, cluster, async () => {
      const began = now()
      await cluster.node.kill()
      await waitUntil(2_000, () => cluster.fleet.closes.length > 0)
      const took = await requireWithin(
        "all clients are at the other node",
        30_000,
        () => cluster.fleet.isFullyConnected
      )
      moved = [...cluster.fleet.closes]
      run.observe(`${moved.length} clients moved within ${formatSeconds(took)}`)
      const times = cluster.fleet.authentications.map(({ at }) => at).filter((at) => at > began)
      const max = Math.max(0, ...times.map((at) => times.filter((other) => other >= at && other < at + 100).length))
      run.observe(`at most ${max} within 0.1 s`)
      if (moved.length > 30)
        run.check(max <= moved.length / 3, `${max} of ${moved.length} connected within 0.1 s`)
      await waitForState(run, cluster, "lost")
      // The node is still down.
      const present = await pollErrors(cluster, 25_000 * run.timeFactor, (world) => presenceErrors(cluster, world))
      run.observe(`presence correct ${formatSeconds(now() - began)} after the kill`)
      run.check(present.errors.length === 0, `presence: ${summarize(present.errors)}`)
    }, { nodesMayRestart: true })
  }
}

/** Samples for how long each client is shown offline. */
const sampleOffline = (cluster: TestCluster): { stop(): Promise<ReadonlyMap<string, number>> } => {
  const maxOfflineMillis = new Map<string, number>()
  const since = new Map<string, number>()
  const watching = new Sampler(100, async () => {
    const rows = await cluster.postgres.query("select id, status from agents union all select id, status from gateways")
    for (const { id, status } of rows) {
      const name = String(id)
      if (status === "online") since.delete(name)
      else {
        if (!since.has(name)) since.set(name, now())
        maxOfflineMillis.set(name, Math.max(maxOfflineMillis.get(name) ?? 0, now() - (since.get(name) ?? 0)))
      }
    }
  })
  return {
    stop: async () => {
      await watching.stop()
      return maxOfflineMillis
    }
  }
}

const rollingRestart: Fault = {
  id: "F20",
  name: "Rolling restart",
  injected: "SIGTERM and a new start of each of two nodes in turn",
  expected: "each client closed with 1012 and connected to the other node; no client shown offline for more than 5 s",
  nodes: 2,
  execute: async (run, cluster) => {
    await spreadClients(cluster)
    const offline = sampleOffline(cluster)
    await withWriters(run, cluster, async () => {
      for (const node of cluster.nodes) {
        const code = await node.stop()
        run.check(code === 0, `${node.name} ended with ${code}`)
        await requireWithin("all clients are at the other node", 30_000, () => cluster.fleet.isFullyConnected)
        await node.start()
      }
      await waitForState(run, cluster, "live")
    }, { nodesMayRestart: true })
    const ids = new Set(cluster.accounts.map(({ id }) => id))
    const times = [...await offline.stop()].filter(([id]) => ids.has(id)).map(([, millis]) => millis)
    const worst = Math.max(0, ...times)
    run.observe(`closes: ${cluster.fleet.closesByCode()}; shown offline for at most ${formatSeconds(worst)}`)
    const others = cluster.fleet.closes.filter(({ code }) => code !== 1012)
    run.check(others.length === 0, `closed with another code than 1012: ${cluster.fleet.closesByCode(others)}`)
    run.check(worst <= 5_000, `a client was shown offline for ${formatSeconds(worst)}`)
  }
}

const isolatedNode: Fault = {
  id: "F30",
  name: "Node cut off from PostgreSQL",
  injected:
    "the proxy drops everything between one of two nodes and the database for 12 s; one of its clients connects to the other node",
  expected: "its sessions stay; new clients get 1013; after healing, the replaced session is closed with 4409",
  nodes: 2,
  execute: async (run, cluster) => {
    await spreadClients(cluster)
    const key = cluster.spareAgentKey
    const [, other] = cluster.nodes
    await withWriters(run, cluster, async () => {
      let old: WebSocket | undefined
      let oldClose: number | undefined
      const first = await tryLogin(cluster.node.wsPort, key, { keep: (ws) => old = ws })
      run.check(first.outcome === "ready", `before the fault: ${first.outcome}`)
      old?.on("close", (code) => oldClose = code)
      const heartbeatTimer = setInterval(() => old?.send("{\"type\":\"heartbeat\",\"data\":{\"timestamp\":0}}"), 1_000)
      cluster.databaseProxy.set({ kind: "blackhole" })
      await sleep(6_000)
      const refused = await tryLogin(cluster.node.wsPort, `${key}x`, { timeoutMillis: 14_000 })
      run.observe(`a new client at the isolated node: ${refused.outcome} after ${formatSeconds(refused.millis)}`)
      run.check(refused.outcome === "1013", `the isolated node answered an unknown key with ${refused.outcome}`)
      const taken = await tryLogin(other?.wsPort ?? 0, key, { keep: (ws) => setTimeout(() => ws.terminate(), 20_000) })
      run.check(taken.outcome === "ready", `at the other node: ${taken.outcome}`)
      run.check(oldClose === undefined || oldClose === 4409, `the old session was closed with ${oldClose}`)
      await waitForState(run, cluster, "lost")
      await cluster.heal()
      await waitForState(run, cluster, "live")
      const replaced = await waitUntil(15_000, () => oldClose !== undefined)
      clearInterval(heartbeatTimer)
      old?.terminate()
      run.check(
        replaced !== undefined && oldClose === 4409,
        `the old session was closed with ${oldClose ?? "nothing"}`
      )
      if (replaced !== undefined) run.observe(`the old session: ${oldClose} ${formatSeconds(replaced)} after healing`)
    }, { httpWriters: 2, sqlWriters: 2 })
    noClose(run, cluster)
  }
}

const noClose = (run: FaultRun, { fleet }: TestCluster): void =>
  run.check(fleet.closes.length === 0, `connections were closed: ${fleet.closesByCode()}`)

export const nodes: ReadonlyArray<Fault> = [pausedNode, killedNode, rollingRestart, isolatedNode]
