/** F21, F22, F24, F28, F29: clients that do not hear, are not heard, do not read, are two, or may no longer be there. */
import { now, sleep } from "#bench/support/clock.ts"
import { FaultClient } from "#faults/FaultClient.ts"
import { underLoad } from "#faults/checkGuarantees.ts"
import { megabytes, metricOf } from "#faults/nodeMetrics.ts"
import { withoutNotifications } from "#faults/dropNotifications.ts"
import { tryKey } from "#faults/tryLogin.ts"
import { readWorld } from "#faults/expectedView.ts"
import { heartbeatTimeoutMillis, type Stage } from "#faults/TestCluster.ts"
import type { Fault } from "#faults/FaultRun.ts"
import { holdsWithin, mustHold, Sampling, seconds } from "#faults/waitUntil.ts"
import { Random } from "#simulation/Random.ts"

/** Every third connection to the first node. */
const someLinks = (stage: Stage) => [...stage.edge.links].filter((_, index) => index % 3 === 0)

const halfOpen: Fault = {
  id: "F21",
  name: "Half-open TCP",
  injected: "the proxy swallows everything, both ways, of a third of the clients, which wait for ever",
  expected: "the node closes them a heartbeat timeout and a sweep later, and shows them offline; the others stay",
  nodes: 1,
  run: async (trial, stage) => {
    await underLoad(trial, stage, async () => {
      const links = someLinks(stage)
      for (const client of stage.crowd.clients) client.patience = Infinity
      for (const link of links) link.set({ kind: "blackhole" })
      const took = await holdsWithin(heartbeatTimeoutMillis + 6_000, async () => {
        const { online } = await readWorld(stage.postgres)
        return stage.accounts.filter(({ id }) => online.has(id)).length === stage.accounts.length - links.length
      })
      trial.check(took !== undefined, `${links.length} dead clients are still shown online`)
      if (took !== undefined) trial.saw(`${links.length} dead clients shown offline after ${seconds(took)}`)
      trial.check(stage.crowd.closes.length === 0, `living clients were closed: ${stage.crowd.closesByCode()}`)
    })
  }
}

const deafClient: Fault = {
  id: "F22",
  name: "Half-open in the other direction",
  injected: "the proxy swallows what the node sends to a third of the clients, and then, of another third, both ways",
  expected: "they leave after 2.5 heartbeat intervals and come back; the new session takes over from the old one",
  nodes: 1,
  run: async (trial, stage) => {
    for (const direction of ["down", undefined] as const) {
      await underLoad(trial, stage, async () => {
        const links = someLinks(stage)
        const began = now()
        for (const link of links) link.set({ kind: "blackhole" }, direction)
        await mustHold("the deaf clients leave", 12_000, () => stage.crowd.closes.length >= links.length)
        trial.saw(`${links.length} left after ${seconds(now() - began)}`)
        await mustHold("they are back", 10_000, () => stage.crowd.isComplete)
      })
      const codes = stage.crowd.closes.filter(({ code }) => code !== 1006)
      trial.check(codes.length === 0, `closed with ${stage.crowd.closesByCode(codes)}`)
    }
  }
}

/** As long as a target may be, nearly: so that what waits for a slow client is soon more than the system's own buffers hold. */
const padding = "x".repeat(400)

/** A transaction for each round, so that there are as many changes as rows times rounds; and the node's largest memory meanwhile. */
const manyChanges = async (stage: Stage, changes: number): Promise<{ made: number; peak: number }> => {
  let made = 0
  let peak = 0
  const watching = new Sampling(200, async () => {
    peak = Math.max(peak, await metricOf(stage.node, "control_process_memory_bytes"))
  })
  while (made < changes) {
    const rows = await stage.postgres.query(
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
  run: async (trial, stage) => {
    const isShort = stage.options.clients < 100
    const changes = isShort ? 24_000 : 20_000
    const gateways = stage.crowd.clients.filter(({ account }) => account.type === "gateway")
    const slow = gateways.slice(Math.min(2, gateways.length - 1))
    const fast = stage.crowd.clients.filter((client) => !slow.includes(client))
    const told = async () => {
      const newest = await stage.revision()
      await mustHold("those who read are told", 60_000, () => fast.every((client) => isAt(client, newest)))
    }
    const before = isShort ? undefined : await manyChanges(stage, changes)
    await told()
    await underLoad(trial, stage, async (ledger) => {
      for (const { ws } of slow) ws?.pause()
      const began = now()
      const { made, peak } = await manyChanges(stage, changes)
      ledger.note("acked", made)
      await told()
      trial.saw(`${made} changes with ${slow.length} slow gateways told to all others in ${seconds(now() - began)}`)
      if (before === undefined) return
      const growth = (peak - before.peak) / slow.length
      trial.saw(`memory at most ${megabytes(before.peak)} without slow ones, ${megabytes(peak)} with them`)
      trial.check(growth < 4 * 1_048_576, `memory grew by ${megabytes(growth)} for each slow client`)
    }, { convergenceMillis: 30_000, http: 0, sql: 0 })
    const others = stage.crowd.closes.filter(({ client }) => !slow.includes(client))
    trial.check(others.length === 0, `clients that read were closed: ${stage.crowd.closesByCode(others)}`)
    const noticed = stage.crowd.configs + stage.crowd.closes.length
    trial.check(noticed >= slow.length, "the slow ones were not slow enough to be noticed")
    trial.saw(`closes of slow ones: ${stage.crowd.closesByCode()}, configs in all: ${stage.crowd.configs}`)
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
  run: async (trial, stage) => {
    const key = stage.spareKey
    const millis = stage.options.clients < 100 ? 6_000 : 20_000
    const codes = new Map<number, number>()
    let sessions = 0
    let fought = 0
    const watcher = {
      told: () => {},
      answered: () => {},
      ready: () => void (sessions += 1),
      closed: (_: FaultClient, code: number) => void codes.set(code, (codes.get(code) ?? 0) + 1)
    }
    const account = { type: "agent", id: "", name: "clone", apiKey: key, level: "plain" } as const
    const fighters = stage.edges.map((edge, index) => {
      const clone = new FaultClient(account, [edge.port], Random.of(trial.seed, 900 + index), watcher)
      clone.isStubborn = true
      return clone
    })
    await underLoad(trial, stage, async () => {
      const began = now()
      for (const fighter of fighters) fighter.start()
      await sleep(millis)
      // On a busy machine a node that was asked for nothing yet has not refused anything either.
      await mustHold("the clones fight", 20_000, () => sessions >= 3 && (codes.get(4409) ?? 0) > 0)
      for (const fighter of fighters) fighter.stop()
      fought = now() - began
      await mustHold("the clones are gone", 10_000, () => fighters.every(({ ws }) => ws === undefined))
    })
    const described = [...codes].map(([code, count]) => `${code} ×${count}`).join(", ")
    trial.saw(`${sessions} sessions in ${seconds(fought)}, closes: ${described}`)
    // What the bucket of each node holds, and what is filled into it meanwhile: they may have been stopped a little later.
    const most = stage.nodes.length * (30 + Math.ceil(fought / 2_000) + 2)
    trial.check(sessions <= most, `${sessions} sessions were let in, more than ${most}`)
    const last = await tryKey(stage.node.wsPort, key)
    trial.saw(`afterwards: ${last.outcome}`)
    trial.check(["ready", "4429"].includes(last.outcome), `afterwards the key was answered with ${last.outcome}`)
    trial.check(stage.crowd.closes.length === 0, `others were closed: ${stage.crowd.closesByCode()}`)
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
  run: async (trial, stage) => {
    const [first, second] = stage.crowd.clients.filter(({ account }) => account.type === "agent")
    if (first === undefined || second === undefined) throw new Error("too few agents")
    await underLoad(trial, stage, async (ledger) => {
      for (const [client, bySql] of [[first, false], [second, true]] as const) {
        const { account } = client
        const path = `/api/agents/${account.id}/keys`
        const old = account.apiKey
        const keys = (await stage.node.operator.get(path)).body.items
        const { apiKey } = await stage.create(path, {})
        ledger.note("acked")
        stage.canaries.push({ name: `the new key of ${account.name}`, text: String(apiKey) })
        if (bySql) stage.store.set(withoutNotifications(() => {}), "down")
        const closes = stage.crowd.closes.length
        const began = now()
        if (bySql) await stage.postgres.query("delete from api_keys where id = $1", [keys[0].id])
        else await stage.node.operator.delete(`${path}/${keys[0].id}`)
        ledger.note("acked")
        const took = await mustHold("the session is closed", 10_000, () => stage.crowd.closes.length > closes)
        const code = stage.crowd.closes.at(-1)?.code
        trial.saw(`${bySql ? "SQL, NOTIFY lost" : "API"}: ${code} after ${Math.round(took)} ms`)
        trial.check(code === 4403, `closed with ${code}`)
        trial.check(now() - began < (bySql ? 3_000 : 1_000), `closed only after ${seconds(now() - began)}`)
        const refused = await tryKey(stage.node.wsPort, old)
        trial.check(refused.outcome === "4401", `the revoked key was answered with ${refused.outcome}`)
        account.apiKey = String(apiKey)
        client.start()
        await mustHold("it is back with its new key", 10_000, () => client.isReady)
        stage.store.heal()
      }
    })
  }
}

export const clients: ReadonlyArray<Fault> = [halfOpen, deafClient, slowConsumer, clones, revoked]
