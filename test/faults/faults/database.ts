/** F1, F2, F7 to F9: PostgreSQL restarts, crashes, or is exhausted, slow or locked. */
import { now, sleep } from "#bench/support/timing.ts"
import { quantile } from "#bench/support/quantiles.ts"
import type { Fault, FaultRun } from "#faults/FaultRun.ts"
import type { TestCluster } from "#faults/TestCluster.ts"
import { withWriters } from "#faults/checkGuarantees.ts"
import { tryLogin } from "#faults/tryLogin.ts"
import { formatSeconds, requireWithin, waitUntil } from "#faults/waitUntil.ts"
import { reservedPoolSize } from "#store/ReservedPool.ts"

const noClose = (run: FaultRun, { fleet }: TestCluster): void =>
  run.check(fleet.closes.length === 0, `connections were closed: ${fleet.closesByCode()}`)

const lockCounter = "update control_meta set revision = revision"

/** Measures the time from the first accepted database connection. */
const checkCatchUp = async (run: FaultRun, { node }: TestCluster): Promise<void> => {
  const took = await requireWithin("the node has caught up", 10_000, () => node.isReady())
  run.observe(`node caught up ${formatSeconds(took)} after the database answered`)
  run.check(took < 5_000 * run.timeFactor, `the node needed ${formatSeconds(took)} to catch up`)
}

const restart: Fault = {
  id: "F1",
  name: "PostgreSQL restart",
  injected: "SIGINT to the postmaster, start after 2 s",
  expected: "no session closed; every view correct within 5 s after the database answers",
  nodes: 1,
  execute: async (run, cluster) => {
    await withWriters(run, cluster, async () => {
      await cluster.postgres.stop("SIGINT")
      await sleep(2_000)
      await cluster.postgres.start()
      await checkCatchUp(run, cluster)
    }, { convergenceMillis: 5_000 })
    noClose(run, cluster)
  }
}

const crash: Fault = {
  id: "F2",
  name: "PostgreSQL crash",
  injected: "SIGKILL of the postmaster and all backends under writers, immediate start",
  expected: "as F1 after recovery; no acknowledged write lost",
  nodes: 1,
  execute: async (run, cluster) => {
    await withWriters(run, cluster, async () => {
      await cluster.postgres.kill()
      const began = now()
      await cluster.postgres.start()
      run.observe(`recovered in ${formatSeconds(now() - began)}`)
      await checkCatchUp(run, cluster)
    }, { convergenceMillis: 5_000 })
    noClose(run, cluster)
  }
}

const exhausted: Fault = {
  id: "F7",
  name: "Connection pool exhausted",
  injected:
    "a lock on the revision counter, and 40 concurrent writes that wait for it on all of the node's connections",
  expected:
    "writes rejected in time (503); a new client connected, or closed with 1013; heartbeats answered within 1 s",
  nodes: 1,
  execute: async (run, cluster) => {
    await withWriters(run, cluster, async (ledger) => {
      const holders = await cluster.postgres.openSession()
      try {
        const until = now() + 6_000
        const holding = (async () => {
          // Takes the lock again as soon as PostgreSQL has ended the holder, so that the row is never free for long.
          while (now() < until) {
            await holders.run("begin", lockCounter, "select pg_sleep(2.5)", "rollback").catch(() => sleep(20))
          }
        })()
        await requireWithin("the lock is taken", 5_000, async () => {
          const [row] = await cluster.postgres.query(
            "select count(*)::int as waiting from pg_stat_activity where query like 'select pg_sleep%'"
          )
          return Number(row?.["waiting"]) > 0
        })
        cluster.fleet.heartbeatMillis.length = 0
        const writes = Array.from({ length: 40 }, async (_, index) => {
          const answer = await cluster.node.operator.post("/api/agents", { name: `waits ${index}` })
          // An agent and its key are two revisions.
          ledger.record(answer.status === 201 ? "acknowledged" : "unknown", 2)
          return answer.status
        })
        const probe = await tryLogin(cluster.node.wsPort, cluster.spareAgentKey, { timeoutMillis: 14_000 })
        const statuses = await Promise.all(writes)
        await holding
        const refused = statuses.filter((status) => status === 503).length
        run.observe(
          `${refused} of 40 writes 503, a new client: ${probe.outcome} after ${formatSeconds(probe.millis)}`
        )
        run.check(
          statuses.every((status) => status === 201 || status === 503),
          `writes were answered with ${[...new Set(statuses)].join(", ")}`
        )
        run.check(
          probe.outcome === "ready" || probe.outcome === "1013",
          `a new client was answered with ${probe.outcome}`
        )
        const slowest = quantile(cluster.fleet.heartbeatMillis, 1)
        run.observe(`slowest heartbeat ${Math.round(slowest)} ms of ${cluster.fleet.heartbeatMillis.length}`)
        run.check(slowest < 1_000, `a heartbeat was answered after ${Math.round(slowest)} ms`)
      } finally {
        await holders.close()
      }
    })
    noClose(run, cluster)
    await cluster.postgres.query("delete from agents where name like 'waits %'")
    await cluster.waitUntilCalm()
  }
}

const slow: Fault = {
  id: "F8",
  name: "Slow PostgreSQL",
  injected: "the proxy delays every answer of the database by 0.5 to 5 s for 12 s",
  expected: "no session closed; heartbeats answered within 1 s; no connections beyond the pools",
  nodes: 1,
  execute: async (run, cluster) => {
    await withWriters(run, cluster, async () => {
      let max = 0
      cluster.databaseProxy.set({ kind: "delay", millis: () => run.random.between(500, 5_000) }, "down")
      cluster.fleet.heartbeatMillis.length = 0
      await waitUntil(12_000, async () => {
        const [row] = await cluster.postgres.query(
          "select count(*)::int as count from pg_stat_activity where application_name = 'control'"
        )
        max = Math.max(max, Number(row?.["count"]))
        await sleep(200)
        return false
      })
      const slowest = quantile(cluster.fleet.heartbeatMillis, 1)
      run.observe(`at most ${max} connections; slowest heartbeat ${Math.round(slowest)} ms`)
      // The pool has ten connections. LISTEN has one more, and a second one while it reconnects.
      run.check(max <= 10 + reservedPoolSize + 2, `the node had ${max} connections`)
      run.check(slowest < 1_000, `a heartbeat was answered after ${Math.round(slowest)} ms`)
    })
    noClose(run, cluster)
  }
}

const locked: Fault = {
  id: "F9",
  name: "Stuck lock holder",
  injected: "a transaction with a node's timeouts takes the counter's lock and hangs",
  expected: "other writers rejected after 3 s (503); PostgreSQL ends the holder after 5 s, and writes succeed again",
  nodes: 1,
  execute: async (run, cluster) => {
    await withWriters(run, cluster, async (ledger) => {
      const holder = await cluster.postgres.openSession()
      try {
        await holder.run("begin", lockCounter)
        const began = now()
        const before = ledger.statuses.get("503") ?? 0
        const [answer] = await Promise.all([
          cluster.node.operator.post("/api/agents", { name: "waits" }),
          requireWithin("a writer is refused", 6_000, () => (ledger.statuses.get("503") ?? 0) > before)
            .then((millis) => run.observe(`503 after ${formatSeconds(millis)}`))
        ])
        ledger.record(answer.status === 201 ? "acknowledged" : "unknown", 2)
        const acknowledged = ledger.acknowledged
        await requireWithin("writes succeed again", 10_000, () => ledger.acknowledged > acknowledged)
        run.observe(`writes succeed again after ${formatSeconds(now() - began)}`)
        run.check(now() - began < 8_000, "writers waited longer than 8 s for the stuck transaction")
      } finally {
        await holder.close()
      }
    })
    noClose(run, cluster)
    await cluster.postgres.query("delete from agents where name = 'waits'")
  }
}

export const database: ReadonlyArray<Fault> = [restart, crash, exhausted, slow, locked]
