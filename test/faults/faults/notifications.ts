/** F5 and F6: PostgreSQL notifications are lost without an error. */
import { now, sleep } from "#bench/support/timing.ts"
import { quantile } from "#bench/support/quantiles.ts"
import { withWriters } from "#faults/checkGuarantees.ts"
import type { WriteLedger } from "#faults/WriteLedger.ts"
import { dropNotifications } from "#faults/dropNotifications.ts"
import type { Fault, FaultRun } from "#faults/FaultRun.ts"
import { formatSeconds, requireWithin, waitUntil } from "#faults/waitUntil.ts"

/** Poll interval plus 1 s for delivery. */
const maxMillis = 3_000

const judgeLatency = (run: FaultRun, ledger: WriteLedger, since: number): void => {
  const latencies = ledger.latencies(since)
  const slowest = quantile(latencies, 1)
  run.observe(
    `${latencies.length} changes during the fault: p50 ${Math.round(quantile(latencies, 0.5))} ms, slowest ${
      Math.round(slowest)
    } ms`
  )
  run.check(latencies.length > 20, "too few changes were made during the fault")
  run.check(slowest < maxMillis, `a change reached its last client after ${Math.round(slowest)} ms`)
}

const silentListen: Fault = {
  id: "F5",
  name: "LISTEN connection silently dead",
  injected: "the proxy drops everything on the node's LISTEN connection and keeps it open",
  expected: "polling delivers every change within 3 s; the node opens a new LISTEN connection within 20 s",
  nodes: 1,
  execute: async (run, cluster) => {
    let began = 0
    const ledger = await withWriters(run, cluster, async () => {
      const listening = () =>
        [...cluster.databaseProxy.connections].filter((link) => link.isListen && !link.hasLostBytes)
      // An earlier fault may have ended the LISTEN connection.
      await requireWithin("one connection has sent LISTEN", 20_000, () => listening().length === 1)
      const dead = listening()
      began = now()
      for (const link of dead) link.set({ kind: "blackhole" })
      const took = await waitUntil(20_000, () => listening().some((link) => !dead.includes(link)))
      run.check(took !== undefined, "no new LISTEN connection within 20 s")
      if (took !== undefined) run.observe(`LISTEN again after ${formatSeconds(took)}`)
      await sleep(500)
    })
    judgeLatency(run, ledger, began)
    run.check(cluster.fleet.closes.length === 0, `connections were closed: ${cluster.fleet.closesByCode()}`)
  }
}

const lostNotify: Fault = {
  id: "F6",
  name: "Notifications lost",
  injected: "the proxy drops every notification to the node for 8 s",
  expected: "polling delivers every change within 3 s",
  nodes: 1,
  execute: async (run, cluster) => {
    let dropped = 0
    let began = 0
    const ledger = await withWriters(run, cluster, async () => {
      cluster.databaseProxy.set(dropNotifications(() => dropped += 1), "down")
      began = now()
      await requireWithin("notifications are lost", 10_000, () => dropped > 0)
      await sleep(8_000)
    })
    run.observe(`${dropped} notifications dropped`)
    judgeLatency(run, ledger, began)
    run.check(cluster.fleet.closes.length === 0, `connections were closed: ${cluster.fleet.closesByCode()}`)
  }
}

export const notifications: ReadonlyArray<Fault> = [silentListen, lostNotify]
