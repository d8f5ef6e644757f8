/** F17, F18, F20, F30: one of two nodes stands still, dies, is replaced, or is cut off from the database. */
import { now, sleep } from "#bench/support/clock.ts"
import type { Close } from "#faults/ClientFleet.ts"
import type { ControlNode } from "#faults/ControlNode.ts"
import { presenceFaults, settle, summary, underLoad } from "#faults/checkGuarantees.ts"
import { tryKey } from "#faults/tryLogin.ts"
import type { Stage } from "#faults/TestCluster.ts"
import type { Fault, Trial } from "#faults/FaultRun.ts"
import { holdsWithin, mustHold, Sampling, seconds } from "#faults/waitUntil.ts"
import type { WebSocket } from "ws"

/** Half of the clients are at each node, whatever the faults before this one have made of it. */
const spread = async (stage: Stage): Promise<void> => {
  for (const client of stage.crowd.clients) client.targets = stage.edges.map(({ port }) => port)
  await stage.isCalm()
}

/** The last word that this node has of another one; such as `live` or `lost`. */
const stateOf = async (asked: ControlNode, name: string): Promise<string | undefined> => {
  const { body } = await asked.operator.get("/api/nodes")
  const states: ReadonlyArray<{ readonly name: string; readonly state: string }> = body.items ?? []
  return states.findLast((each) => each.name === name)?.state
}

/** As soon as it is said of the first node at the second, and how long that took. */
const isSaid = async (trial: Trial, stage: Stage, wanted: string): Promise<void> => {
  const [, other] = stage.nodes
  if (other === undefined) throw new Error("one node only")
  const took = await holdsWithin(20_000, async () => await stateOf(other, firstName) === wanted)
  trial.check(took !== undefined, `the other node says ${await stateOf(other, firstName)} of it, not ${wanted}`)
  if (took !== undefined) trial.saw(`${wanted} at the other node ${seconds(took)} later`)
}

/** Of a node, unless it renews it. */
const leaseMillis = 15_000

/** What the stage calls it. */
const firstName = "node-1"

const stall: Fault = {
  id: "F17",
  name: "Event-loop stall, paused VM",
  injected: "SIGSTOP of one of two nodes for 5 s, and for 30 s (five times the heartbeat timeout, twice the lease)",
  expected:
    "nobody is evicted, since the silence was the node's; `GET /api/nodes` says lost, and then live; presence right in 15 s",
  nodes: 2,
  run: async (trial, stage) => {
    await spread(stage)
    for (const millis of stage.options.clients < 100 ? [8_000] : [5_000, 30_000]) {
      // So that nobody leaves who would have been a reason to evict.
      for (const client of stage.crowd.clients) client.patience = Infinity
      await underLoad(trial, stage, async () => {
        for (const client of stage.crowd.clients) client.patience = Infinity
        stage.node.signal("SIGSTOP")
        await sleep(millis)
        const isLong = millis > leaseMillis
        if (isLong) await isSaid(trial, stage, "lost")
        stage.node.signal("SIGCONT")
        if (isLong) await isSaid(trial, stage, "live")
        await mustHold("the node answers again", 10_000, () => stage.node.isReady())
        await sleep(2_000)
      }, { presenceMillis: 15_000 })
      const evicted = stage.crowd.closes.length
      trial.saw(`${seconds(millis)}: ${evicted} closed`)
      trial.check(evicted === 0, `connections were closed: ${stage.crowd.closesByCode()}`)
    }
  }
}

const kill: Fault = {
  id: "F18",
  name: "kill -9 of a node with clients",
  injected: "SIGKILL of one of two nodes, while its clients are connected",
  expected:
    "its clients are at the other node at once and not all in one moment (a third of them in a tenth of a second at most); presence is right within 25 s, of the dead node too",
  nodes: 2,
  run: async (trial, stage) => {
    await spread(stage)
    let moved: ReadonlyArray<Close> = []
    await underLoad(trial, stage, async () => {
      const began = now()
      await stage.node.kill()
      await holdsWithin(2_000, () => stage.crowd.closes.length > 0)
      const took = await mustHold("all clients are at the other node", 30_000, () => stage.crowd.isComplete)
      moved = [...stage.crowd.closes]
      trial.saw(`${moved.length} clients moved within ${seconds(took)}`)
      const times = stage.crowd.readies.map(({ at }) => at).filter((at) => at > began)
      const most = Math.max(0, ...times.map((at) => times.filter((other) => other >= at && other < at + 100).length))
      trial.saw(`at most ${most} in a tenth of a second`)
      if (moved.length > 30)
        trial.check(most <= moved.length / 3, `${most} of ${moved.length} came back in one tenth of a second`)
      await isSaid(trial, stage, "lost")
      // While the node is still dead.
      const present = await settle(stage, 25_000, (world) => presenceFaults(stage, world))
      trial.saw(`presence right ${seconds(now() - began)} after the kill`)
      trial.check(present.faults.length === 0, `presence: ${summary(present.faults)}`)
    }, { mayRestart: true })
  }
}

/** For how long each client was shown offline, from samples of its row. */
const watchOffline = (stage: Stage): { stop(): Promise<ReadonlyMap<string, number>> } => {
  const longest = new Map<string, number>()
  const since = new Map<string, number>()
  const watching = new Sampling(100, async () => {
    const rows = await stage.postgres.query("select id, status from agents union all select id, status from gateways")
    for (const { id, status } of rows) {
      const name = String(id)
      if (status === "online") since.delete(name)
      else {
        if (!since.has(name)) since.set(name, now())
        longest.set(name, Math.max(longest.get(name) ?? 0, now() - (since.get(name) ?? 0)))
      }
    }
  })
  return {
    stop: async () => {
      await watching.stop()
      return longest
    }
  }
}

const rolling: Fault = {
  id: "F20",
  name: "Rolling restart",
  injected: "SIGTERM and a new start of each of two nodes in turn",
  expected:
    "each client is told to come back (1012) and is at the other node; nobody is shown offline for longer than 5 s",
  nodes: 2,
  run: async (trial, stage) => {
    await spread(stage)
    const offline = watchOffline(stage)
    await underLoad(trial, stage, async () => {
      for (const node of stage.nodes) {
        const code = await node.stop()
        trial.check(code === 0, `${node.name} ended with ${code}`)
        await mustHold("all clients are at the other node", 30_000, () => stage.crowd.isComplete)
        await node.start()
      }
      await isSaid(trial, stage, "live")
    }, { mayRestart: true })
    const ids = new Set(stage.accounts.map(({ id }) => id))
    const times = [...await offline.stop()].filter(([id]) => ids.has(id)).map(([, millis]) => millis)
    const worst = Math.max(0, ...times)
    trial.saw(`closes: ${stage.crowd.closesByCode()}; shown offline for at most ${seconds(worst)}`)
    const others = stage.crowd.closes.filter(({ code }) => code !== 1012)
    trial.check(others.length === 0, `closed with something else than 1012: ${stage.crowd.closesByCode(others)}`)
    trial.check(worst <= 5_000, `a client was shown offline for ${seconds(worst)}`)
  }
}

const cutOff: Fault = {
  id: "F30",
  name: "Node cut from DB, clients alive",
  injected:
    "the proxy swallows everything between one of two nodes and the database, for 12 s; a client of it comes to the other node",
  expected:
    "its sessions stay; it lets nobody in (1013); when it is back, the session that was taken over is closed (4409)",
  nodes: 2,
  run: async (trial, stage) => {
    await spread(stage)
    const key = stage.spareKey
    const [, other] = stage.nodes
    await underLoad(trial, stage, async () => {
      let old: WebSocket | undefined
      let oldClose: number | undefined
      const first = await tryKey(stage.node.wsPort, key, { keep: (ws) => old = ws })
      trial.check(first.outcome === "ready", `before the fault: ${first.outcome}`)
      old?.on("close", (code) => oldClose = code)
      const beating = setInterval(() => old?.send("{\"type\":\"heartbeat\",\"data\":{\"timestamp\":0}}"), 1_000)
      stage.store.set({ kind: "blackhole" })
      await sleep(6_000)
      const refused = await tryKey(stage.node.wsPort, `${key}x`, { patienceMillis: 14_000 })
      trial.saw(`a new client at the cut node: ${refused.outcome} after ${seconds(refused.millis)}`)
      trial.check(refused.outcome === "1013", `the cut node answered an unknown key with ${refused.outcome}`)
      const taken = await tryKey(other?.wsPort ?? 0, key, { keep: (ws) => setTimeout(() => ws.terminate(), 20_000) })
      trial.check(taken.outcome === "ready", `at the other node: ${taken.outcome}`)
      trial.check(oldClose === undefined || oldClose === 4409, `the old session was closed with ${oldClose}`)
      await isSaid(trial, stage, "lost")
      await stage.heal()
      await isSaid(trial, stage, "live")
      const replaced = await holdsWithin(15_000, () => oldClose !== undefined)
      clearInterval(beating)
      old?.terminate()
      trial.check(
        replaced !== undefined && oldClose === 4409,
        `the old session was closed with ${oldClose ?? "nothing"}`
      )
      if (replaced !== undefined) trial.saw(`the old session: ${oldClose} ${seconds(replaced)} after healing`)
    }, { http: 2, sql: 2 })
    noClose(trial, stage)
  }
}

const noClose = (trial: Trial, { crowd }: Stage): void =>
  trial.check(crowd.closes.length === 0, `connections were closed: ${crowd.closesByCode()}`)

export const nodes: ReadonlyArray<Fault> = [stall, kill, rolling, cutOff]
