/** F21, F22, F24, F28, F29: clients that do not hear, are not heard, do not read, are two, or may no longer be there. */
import { now, sleep } from "#bench/support/clock.ts"
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
const someLinks = (cluster: TestCluster) => [...cluster.clientProxy.connections].filter((_, index) => index % 3 === 0)

const halfOpen: Fault = {
  id: "F21",
  name: "Half-open TCP",
  injected: "the proxy swallows everything, both ways, of a third of the clients, which wait for ever",
  expected: "the node closes them a heartbeat timeout and a sweep later, and shows them offline; the others stay",
  nodes: 1,
  execute: async (run, cluster) => {
    await withWriters(run, cluster, async () => {
      const links = someLinks(cluster)
      for (const client of cluster.fleet.clients) client.maxSilentIntervals = Infinity
      for (const link of links) link.set({ kind: "blackhole" })
      const took = await waitUntil(heartbeatTimeoutMillis + 6_000, async () => {
        const { online } = await readRows(cluster.postgres)
        return cluster.accounts.filter(({ id }) => online.has(id)).length === cluster.accounts.length - links.length
      })
      run.check(took !== undefined, `${links.length} dead clients are still shown online`)
      if (took !== undefined) run.observe(`${links.length} dead clients shown offline after ${formatSeconds(took)}`)
      run.check(cluster.fleet.closes.length === 0, `living clients were closed: ${cluster.fleet.closesByCode()}`)
    })
  }
}

const deafClient: Fault = {
  id: "F22",
  name: "Half-open in the other direction",
  injected: "the proxy swallows what the node sends to a third of the clients, and then, of another third, both ways",
  expected: "they leave after 2.5 heartbeat intervals and come back; the new session takes over from the old one",
  nodes: 1,
  execute: async (run, cluster) => {
    for (const direction of ["down", undefined] as const) {
      await withWriters(run, cluster, async () => {
        const links = someLinks(cluster)
        const began = now()
        for (const link of links) link.set({ kind: "blackhole" }, direction)
        await requireWithin("the deaf clients leave", 12_000, () => cluster.fleet.closes.length >= links.length)
        run.observe(`${links.length} left after ${formatSeconds(now() - began)}`)
        await requireWithin("they are back", 10_000, () => cluster.fleet.isFullyConnected)
      })
      const codes = cluster.fleet.closes.filter(({ code }) => code !== 1006)
      run.check(codes.length === 0, `closed with ${cluster.fleet.closesByCode(codes)}`)
    }
  }
}

/** As long as a target may be, nearly: so that what waits for a slow client is soon more than the system's own buffers hold. */
const padding = "x".repeat(400)

/** A transaction for each round, so that there are as many changes as rows times rounds; and the node's largest memory meanwhile. */
const manyChanges = async (cluster: TestCluster, changes: number): Promise<{ made: number; peak: number }> => {
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

/** The same with everybody reading comes first: what it takes then is no slow client's fault. */
const slowConsumer: Fault = {
  id: "F24",
  name: "Slow consumer",
  injected:
    "all gateways but two stop reading their sockets, while 20,000 long changes are made (24,000 with fewer than 100 clients)",
  expected:
    "the others are told of everything; memory grows by 4 MiB at most for each slow one; those get one config, or 4441",
  nodes: 1,
  execute: async (run, cluster) => {
    const isShort = cluster.options.clients < 100
    const changes = isShort ? 24_000 : 20_000
    const gateways = cluster.fleet.clients.filter(({ account }) => account.type === "gateway")
    const slow = gateways.slice(Math.min(2, gateways.length - 1))
    const fast = cluster.fleet.clients.filter((client) => !slow.includes(client))
    const told = async () => {
      const newest = await cluster.revision()
      await requireWithin("those who read are told", 60_000, () => fast.every((client) => isAt(client, newest)))
    }
    const before = isShort ? undefined : await manyChanges(cluster, changes)
    await told()
    await withWriters(run, cluster, async (ledger) => {
      for (const { ws } of slow) ws?.pause()
      const began = now()
      const { made, peak } = await manyChanges(cluster, changes)
      ledger.record("acknowledged", made)
      await told()
      run.observe(
        `${made} changes with ${slow.length} slow gateways told to all others in ${formatSeconds(now() - began)}`
      )
      if (before === undefined) return
      const growth = (peak - before.peak) / slow.length
      run.observe(
        `memory at most ${formatMebibytes(before.peak)} without slow ones, ${formatMebibytes(peak)} with them`
      )
      run.check(growth < 4 * 1_048_576, `memory grew by ${formatMebibytes(growth)} for each slow client`)
    }, { convergenceMillis: 30_000, httpWriters: 0, sqlWriters: 0 })
    const others = cluster.fleet.closes.filter(({ client }) => !slow.includes(client))
    run.check(others.length === 0, `clients that read were closed: ${cluster.fleet.closesByCode(others)}`)
    const noticed = cluster.fleet.configs + cluster.fleet.closes.length
    run.check(noticed >= slow.length, "the slow ones were not slow enough to be noticed")
    run.observe(`closes of slow ones: ${cluster.fleet.closesByCode()}, configs in all: ${cluster.fleet.configs}`)
  }
}

/** A client at the plain level has no place: its view says whether it has come so far. */
const isAt = ({ account, viewer }: FaultClient, revision: number): boolean =>
  account.level === "plain" || account.type === "agent" || viewer.revision >= revision

const clones: Fault = {
  id: "F28",
  name: "Duplicate login, clones that fight",
  injected:
    "two clients with one key, one at each of two nodes, come back at once whenever they are replaced, for 20 s (6 s in `npm test`)",
  expected:
    "there is one session at a time and the newest wins; a node lets the client begin 30 in a row and one more every 2 s; nobody else notices",
  nodes: 2,
  execute: async (run, cluster) => {
    const key = cluster.spareAgentKey
    const millis = cluster.options.clients < 100 ? 6_000 : 20_000
    const codes = new Map<number, number>()
    let sessions = 0
    let fought = 0
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
      // On a busy machine a node that was asked for nothing yet has not refused anything either.
      await requireWithin("the clones fight", 20_000, () => sessions >= 3 && (codes.get(4409) ?? 0) > 0)
      for (const fighter of fighters) fighter.stop()
      fought = now() - began
      await requireWithin("the clones are gone", 10_000, () => fighters.every(({ ws }) => ws === undefined))
    })
    const described = [...codes].map(([code, count]) => `${code} ×${count}`).join(", ")
    run.observe(`${sessions} sessions in ${formatSeconds(fought)}, closes: ${described}`)
    // What the bucket of each node holds, and what is filled into it meanwhile: they may have been stopped a little later.
    const most = cluster.nodes.length * (30 + Math.ceil(fought / 2_000) + 2)
    run.check(sessions <= most, `${sessions} sessions were let in, more than ${most}`)
    const last = await tryLogin(cluster.node.wsPort, key)
    run.observe(`afterwards: ${last.outcome}`)
    run.check(["ready", "4429"].includes(last.outcome), `afterwards the key was answered with ${last.outcome}`)
    run.check(cluster.fleet.closes.length === 0, `others were closed: ${cluster.fleet.closesByCode()}`)
  }
}

const revoked: Fault = {
  id: "F29",
  name: "Key revoked or rotated live",
  injected:
    "keys of connected clients are replaced and revoked through the API, and by SQL while notifications are lost",
  expected:
    "closed with 4403 within 1 s (3 s when notifications are lost); the old key is refused, the new one lets in",
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
        await requireWithin("it is back with its new key", 10_000, () => client.isReady)
        cluster.databaseProxy.heal()
      }
    })
  }
}

export const clients: ReadonlyArray<Fault> = [halfOpen, deafClient, slowConsumer, clones, revoked]
