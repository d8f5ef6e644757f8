/** F21, F22, F24, F28, F29: half-open connections, slow consumers, clones and revoked keys. */
import { now, sleep } from "#bench/support/timing.ts"
import { FaultClient } from "#faults/FaultClient.ts"
import { withWriters } from "#faults/checkGuarantees.ts"
import { formatMebibytes, readMetric } from "#faults/nodeMetrics.ts"
import { dropNotifications } from "#faults/dropNotifications.ts"
import { tryLogin } from "#faults/tryLogin.ts"
import { readRows } from "#faults/expectedView.ts"
import { heartbeatTimeoutMillis, type TestCluster } from "#faults/TestCluster.ts"
import type { Fault } from "#faults/FaultRun.ts"
import { formatSeconds, requireWithin, Sampler, waitUntil } from "#faults/waitUntil.ts"
import { Random } from "#simulation/Random.ts"

/** Every third connection to the first node. */
const everyThirdConnection = (cluster: TestCluster) =>
  [...cluster.clientProxy.connections].filter((_, index) => index % 3 === 0)

const halfOpenClients: Fault = {
  id: "F21",
  name: "Half-open connections of clients",
  injected: "the proxy drops everything in both directions for a third of the clients, which wait indefinitely",
  expected:
    "the node closes them within one heartbeat timeout and one sweep, and shows them offline; the others stay connected",
  nodes: 1,
  execute: async (run, cluster) => {
    await withWriters(run, cluster, async () => {
      const links = everyThirdConnection(cluster)
      for (const client of cluster.fleet.clients) client.maxSilentIntervals = Infinity
      for (const link of links) link.set({ kind: "blackhole" })
      const took = await waitUntil(heartbeatTimeoutMillis + 6_000, async () => {
        const { online } = await readRows(cluster.postgres)
        return cluster.accounts.filter(({ id }) => online.has(id)).length === cluster.accounts.length - links.length
      })
      run.check(took !== undefined, `${links.length} dead clients are still shown online`)
      if (took !== undefined) run.observe(`${links.length} dead clients shown offline after ${formatSeconds(took)}`)
      run.check(cluster.fleet.closes.length === 0, `connected clients were closed: ${cluster.fleet.closesByCode()}`)
    })
  }
}

const halfOpenNode: Fault = {
  id: "F22",
  name: "Half-open connections of the node",
  injected: "the proxy drops what the node sends to a third of the clients, then both directions of another third",
  expected: "the clients leave after 2.5 heartbeat intervals and reconnect; the new session replaces the old one",
  nodes: 1,
  execute: async (run, cluster) => {
    for (const direction of ["down", undefined] as const) {
      await withWriters(run, cluster, async () => {
        const links = everyThirdConnection(cluster)
        const began = now()
        for (const link of links) link.set({ kind: "blackhole" }, direction)
        await requireWithin(
          "the affected clients close their connections",
          12_000,
          () => cluster.fleet.closes.length >= links.length
        )
        run.observe(`${links.length} left after ${formatSeconds(now() - began)}`)
        await requireWithin("the affected clients are connected again", 10_000, () => cluster.fleet.isFullyConnected)
      })
      const codes = cluster.fleet.closes.filter(({ code }) => code !== 1006)
      run.check(codes.length === 0, `closed with ${cluster.fleet.closesByCode(codes)}`)
    }
  }
}

/** Nearly as long as a target may be, so that a slow client's backlog soon exceeds the kernel's buffers. */
const padding = "x".repeat(400)

/**
 * Changes all rows in one transaction per round, until `changes` revisions exist. Returns their number and the node's peak
 * memory.
 */
const changeAllRows = async (cluster: TestCluster, changes: number): Promise<{ made: number; peak: number }> => {
  let made = 0
  let peak = 0
  const watching = new Sampler(200, async () => {
    peak = Math.max(peak, await readMetric(cluster.node, "control_process_memory_bytes"))
  })
  while (made < changes) {
    const rows = await cluster.postgres.query(
      "update tunnels set target = $1 || right(domain, 20) where domain like 'app-%' returning 1",
      [`${made}${padding}`]
    )
    made += rows.length
  }
  await watching.stop()
  return { made, peak }
}

/** Makes the same changes without slow clients first, so that the growth of memory can be attributed to slow clients. */
const slowConsumer: Fault = {
  id: "F24",
  name: "Slow consumers",
  injected: "all gateways but two stop reading during 20,000 long changes (24,000 with fewer than 100 clients)",
  expected:
    "the others receive every change; memory grows by at most 4 MiB per slow gateway; a slow gateway gets one config or 4441",
  nodes: 1,
  execute: async (run, cluster) => {
    const isShort = cluster.options.clients < 100
    const changes = isShort ? 24_000 : 20_000
    const gateways = cluster.fleet.clients.filter(({ account }) => account.type === "gateway")
    const slow = gateways.slice(Math.min(2, gateways.length - 1))
    const fast = cluster.fleet.clients.filter((client) => !slow.includes(client))
    const waitForReaders = async () => {
      const newest = await cluster.revision()
      await requireWithin(
        "clients that read have received the change",
        60_000,
        () => fast.every((client) => hasReached(client, newest))
      )
    }
    const before = isShort ? undefined : await changeAllRows(cluster, changes)
    await waitForReaders()
    await withWriters(run, cluster, async (ledger) => {
      for (const { ws } of slow) ws?.pause()
      const began = now()
      const { made, peak } = await changeAllRows(cluster, changes)
      ledger.record("acknowledged", made)
      await waitForReaders()
      run.observe(
        `${made} changes with ${slow.length} slow gateways, received by all others in ${formatSeconds(now() - began)}`
      )
      if (before === undefined) return
      const growth = (peak - before.peak) / slow.length
      run.observe(
        `peak memory ${formatMebibytes(before.peak)} without slow gateways, ${formatMebibytes(peak)} with them`
      )
      run.check(growth < 4 * 1_048_576, `memory grew by ${formatMebibytes(growth)} for each slow client`)
    }, { convergenceMillis: 30_000, httpWriters: 0, sqlWriters: 0 })
    const others = cluster.fleet.closes.filter(({ client }) => !slow.includes(client))
    run.check(others.length === 0, `clients that read were closed: ${cluster.fleet.closesByCode(others)}`)
    const noticed = cluster.fleet.configs + cluster.fleet.closes.length
    run.check(noticed >= slow.length, "no slow gateway was detected")
    run.observe(`closes of slow gateways: ${cluster.fleet.closesByCode()}, configs in total: ${cluster.fleet.configs}`)
  }
}

/** A client at the plain level has no position, so it is not compared. */
const hasReached = ({ account, viewer }: FaultClient, revision: number): boolean =>
  account.level === "plain" || account.type === "agent" || viewer.revision >= revision

const clones: Fault = {
  id: "F28",
  name: "Clones with one key",
  injected:
    "two clients with one key, one at each of two nodes, reconnect at once after each replacement, for 20 s (6 s in `npm test`)",
  expected:
    "one session at a time, the newest wins; at most 30 logins at once per node and one more every 2 s; other clients unaffected",
  nodes: 2,
  execute: async (run, cluster) => {
    const key = cluster.spareAgentKey
    const millis = cluster.options.clients < 100 ? 6_000 : 20_000
    const codes = new Map<number, number>()
    let sessions = 0
    let durationMillis = 0
    const watcher = {
      viewMessage: () => {},
      heartbeatAnswered: () => {},
      authenticated: () => void (sessions += 1),
      closed: (_: FaultClient, code: number) => void codes.set(code, (codes.get(code) ?? 0) + 1)
    }
    const account = { type: "agent", id: "", name: "clone", apiKey: key, level: "plain" } as const
    const fighters = cluster.clientProxies.map((edge, index) => {
      const clone = new FaultClient(account, [edge.port], Random.of(run.seed, 900 + index), watcher)
      clone.ignoresFinalCloseCodes = true
      return clone
    })
    await withWriters(run, cluster, async () => {
      const began = now()
      for (const fighter of fighters) fighter.start()
      await sleep(millis)
      // On a busy machine the clones may not have connected yet.
      await requireWithin("the clones replace each other", 20_000, () => sessions >= 3 && (codes.get(4409) ?? 0) > 0)
      for (const fighter of fighters) fighter.stop()
      durationMillis = now() - began
      await requireWithin("the clones have disconnected", 10_000, () => fighters.every(({ ws }) => ws === undefined))
    })
    const described = [...codes].map(([code, count]) => `${code} ×${count}`).join(", ")
    run.observe(`${sessions} sessions in ${formatSeconds(durationMillis)}, closes: ${described}`)
    // Tokens in each node's bucket, plus those refilled until the clones were stopped.
    const max = cluster.nodes.length * (30 + Math.ceil(durationMillis / 2_000) + 2)
    run.check(sessions <= max, `${sessions} sessions were accepted, more than ${max}`)
    const last = await tryLogin(cluster.node.wsPort, key)
    run.observe(`afterwards: ${last.outcome}`)
    run.check(["ready", "4429"].includes(last.outcome), `afterwards the key was answered with ${last.outcome}`)
    run.check(cluster.fleet.closes.length === 0, `other clients were closed: ${cluster.fleet.closesByCode()}`)
  }
}

const revokedKeys: Fault = {
  id: "F29",
  name: "Keys revoked and rotated live",
  injected: "keys of connected clients are replaced and revoked through the API, and by SQL without notifications",
  expected: "closed with 4403 within 1 s (3 s without notifications); the old key rejected, the new key accepted",
  nodes: 1,
  execute: async (run, cluster) => {
    const [first, second] = cluster.fleet.clients.filter(({ account }) => account.type === "agent")
    if (first === undefined || second === undefined) throw new Error("too few agents")
    await withWriters(run, cluster, async (ledger) => {
      for (const [client, bySql] of [[first, false], [second, true]] as const) {
        const { account } = client
        const path = `/api/agents/${account.id}/keys`
        const old = account.apiKey
        const keys = (await cluster.node.operator.get(path)).body.items
        const { apiKey } = await cluster.create(path, {})
        ledger.record("acknowledged")
        cluster.secrets.push({ name: `the new key of ${account.name}`, text: String(apiKey) })
        if (bySql) cluster.databaseProxy.set(dropNotifications(() => {}), "down")
        const closes = cluster.fleet.closes.length
        const began = now()
        if (bySql) await cluster.postgres.query("delete from api_keys where id = $1", [keys[0].id])
        else await cluster.node.operator.delete(`${path}/${keys[0].id}`)
        ledger.record("acknowledged")
        const took = await requireWithin("the session is closed", 10_000, () => cluster.fleet.closes.length > closes)
        const code = cluster.fleet.closes.at(-1)?.code
        run.observe(`${bySql ? "SQL, NOTIFY lost" : "API"}: ${code} after ${Math.round(took)} ms`)
        run.check(code === 4403, `closed with ${code}`)
        run.check(now() - began < (bySql ? 3_000 : 1_000), `closed only after ${formatSeconds(now() - began)}`)
        const refused = await tryLogin(cluster.node.wsPort, old)
        run.check(refused.outcome === "4401", `the revoked key was answered with ${refused.outcome}`)
        account.apiKey = String(apiKey)
        client.start()
        await requireWithin("the client is connected with its new key", 10_000, () => client.isReady)
        cluster.databaseProxy.heal()
      }
    })
  }
}

export const clients: ReadonlyArray<Fault> = [halfOpenClients, halfOpenNode, slowConsumer, clones, revokedKeys]
