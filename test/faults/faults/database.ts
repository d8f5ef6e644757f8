/** F1, F2, F7 to F9: PostgreSQL goes away, is overtaxed, slow, or locked. */
import { now, sleep } from "#bench/support/clock.ts"
import { quantile } from "#bench/support/quantiles.ts"
import type { Fault, Trial } from "#faults/FaultRun.ts"
import type { Stage } from "#faults/TestCluster.ts"
import { underLoad } from "#faults/checkGuarantees.ts"
import { tryKey } from "#faults/tryLogin.ts"
import { holdsWithin, mustHold, seconds } from "#faults/waitUntil.ts"
import { reservedConnections } from "#store/ReservedPool.ts"

const noClose = (trial: Trial, { crowd }: Stage): void =>
  trial.check(crowd.closes.length === 0, `connections were closed: ${crowd.closesByCode()}`)

const takeCounter = "update control_meta set revision = revision"

/** From the moment at which the database takes connections. */
const readyAgain = async (trial: Trial, { node }: Stage): Promise<void> => {
  const took = await mustHold("the node has caught up", 10_000, () => node.isReady())
  trial.saw(`node caught up ${seconds(took)} after the database answered`)
  trial.check(took < 5_000, `the node needed ${seconds(took)} to catch up`)
}

const restart: Fault = {
  id: "F1",
  name: "DB restart",
  injected: "SIGINT to the postmaster, started again after 2 s",
  expected: "no session is closed; every view is right less than 5 s after the database answers",
  nodes: 1,
  run: async (trial, stage) => {
    await underLoad(trial, stage, async () => {
      await stage.postgres.stop("SIGINT")
      await sleep(2_000)
      await stage.postgres.start()
      await readyAgain(trial, stage)
    }, { convergenceMillis: 5_000 })
    noClose(trial, stage)
  }
}

const crash: Fault = {
  id: "F2",
  name: "DB crash",
  injected: "kill -9 of the postmaster and of all its processes under writers, started again at once",
  expected: "as F1, after recovery; nothing acknowledged is lost",
  nodes: 1,
  run: async (trial, stage) => {
    await underLoad(trial, stage, async () => {
      await stage.postgres.kill()
      const began = now()
      await stage.postgres.start()
      trial.saw(`recovered in ${seconds(now() - began)}`)
      await readyAgain(trial, stage)
    }, { convergenceMillis: 5_000 })
    noClose(trial, stage)
  }
}

const exhausted: Fault = {
  id: "F7",
  name: "Pool exhausted",
  injected:
    "the counter's row is locked from outside, and 40 writes at once wait for it with all of the node's connections",
  expected:
    "writes are refused in time (503), a new client is told to come later (1013), heartbeats are answered as ever",
  nodes: 1,
  run: async (trial, stage) => {
    await underLoad(trial, stage, async (ledger) => {
      const holders = await stage.postgres.session()
      try {
        const until = now() + 6_000
        const holding = (async () => {
          // Taken anew as soon as the server has ended it, so that the row is never free for long.
          while (now() < until) {
            await holders.run("begin", takeCounter, "select pg_sleep(2.5)", "rollback").catch(() => sleep(20))
          }
        })()
        await mustHold("the lock is taken", 5_000, async () => {
          const [row] = await stage.postgres.query(
            "select count(*)::int as waiting from pg_stat_activity where query like 'select pg_sleep%'"
          )
          return Number(row?.["waiting"]) > 0
        })
        stage.crowd.heartbeats.length = 0
        const writes = Array.from({ length: 40 }, async (_, index) => {
          const answer = await stage.node.operator.post("/api/agents", { name: `waits ${index}` })
          // An agent and its key are two revisions.
          ledger.note(answer.status === 201 ? "acked" : "unknown", 2)
          return answer.status
        })
        const probe = await tryKey(stage.node.wsPort, stage.spareKey, { patienceMillis: 14_000 })
        const statuses = await Promise.all(writes)
        await holding
        const refused = statuses.filter((status) => status === 503).length
        trial.saw(`${refused} of 40 writes 503, a new client: ${probe.outcome} after ${seconds(probe.millis)}`)
        trial.check(
          statuses.every((status) => status === 201 || status === 503),
          `writes were answered with ${[...new Set(statuses)].join(", ")}`
        )
        trial.check(
          probe.outcome === "ready" || probe.outcome === "1013",
          `a new client was answered with ${probe.outcome}`
        )
        const slowest = quantile(stage.crowd.heartbeats, 1)
        trial.saw(`slowest heartbeat ${Math.round(slowest)} ms of ${stage.crowd.heartbeats.length}`)
        trial.check(slowest < 1_000, `a heartbeat was answered after ${Math.round(slowest)} ms`)
      } finally {
        await holders.close()
      }
    })
    noClose(trial, stage)
    await stage.postgres.query("delete from agents where name like 'waits %'")
    await stage.isCalm()
  }
}

const slow: Fault = {
  id: "F8",
  name: "Slow DB",
  injected: "the proxy delays every answer of the database by 0.5 to 5 s, for 12 s",
  expected: "sessions stay, heartbeats are answered as ever, no more connections than the pools have",
  nodes: 1,
  run: async (trial, stage) => {
    await underLoad(trial, stage, async () => {
      let most = 0
      stage.store.set({ kind: "delay", millis: () => trial.random.between(500, 5_000) }, "down")
      stage.crowd.heartbeats.length = 0
      await holdsWithin(12_000, async () => {
        const [row] = await stage.postgres.query(
          "select count(*)::int as count from pg_stat_activity where application_name = 'control'"
        )
        most = Math.max(most, Number(row?.["count"]))
        await sleep(200)
        return false
      })
      const slowest = quantile(stage.crowd.heartbeats, 1)
      trial.saw(`at most ${most} connections; slowest heartbeat ${Math.round(slowest)} ms`)
      // Ten in the pool; LISTEN has one of its own, and perhaps its successor already.
      trial.check(most <= 10 + reservedConnections + 2, `the node had ${most} connections`)
      trial.check(slowest < 1_000, `a heartbeat was answered after ${Math.round(slowest)} ms`)
    })
    noClose(trial, stage)
  }
}

const locked: Fault = {
  id: "F9",
  name: "Lock holder stuck",
  injected: "a transaction with a node's own settings takes the counter's lock and stops",
  expected: "other writers are refused after 3 s (503); the server ends the holder after 5 s, and writing goes on",
  nodes: 1,
  run: async (trial, stage) => {
    await underLoad(trial, stage, async (ledger) => {
      const holder = await stage.postgres.session()
      try {
        await holder.run("begin", takeCounter)
        const began = now()
        const before = ledger.statuses.get("503") ?? 0
        const [answer] = await Promise.all([
          stage.node.operator.post("/api/agents", { name: "waits" }),
          mustHold("a writer is refused", 6_000, () => (ledger.statuses.get("503") ?? 0) > before)
            .then((millis) => trial.saw(`503 after ${seconds(millis)}`))
        ])
        ledger.note(answer.status === 201 ? "acked" : "unknown", 2)
        const acked = ledger.acked
        await mustHold("writing goes on", 10_000, () => ledger.acked > acked)
        trial.saw(`writing again after ${seconds(now() - began)}`)
        trial.check(now() - began < 8_000, "writers waited for the stuck one for longer than 8 s")
      } finally {
        await holder.close()
      }
    })
    noClose(trial, stage)
    await stage.postgres.query("delete from agents where name = 'waits'")
  }
}

export const database: ReadonlyArray<Fault> = [restart, crash, exhausted, slow, locked]
