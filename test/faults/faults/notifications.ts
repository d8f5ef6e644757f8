/** F5 and F6: PostgreSQL's notifications do not arrive, and nobody says so. */
import { now, sleep } from "#bench/support/clock.ts"
import { quantile } from "#bench/support/quantiles.ts"
import { underLoad } from "#faults/checkGuarantees.ts"
import type { Ledger } from "#faults/WriteLedger.ts"
import { withoutNotifications } from "#faults/dropNotifications.ts"
import type { Fault, Trial } from "#faults/FaultRun.ts"
import { holdsWithin, mustHold, seconds } from "#faults/waitUntil.ts"

/** The poll, and a second for everything else. */
const mostMillis = 3_000

const judgeLatency = (trial: Trial, ledger: Ledger, since: number): void => {
  const latencies = ledger.latencies(since)
  const slowest = quantile(latencies, 1)
  trial.saw(
    `${latencies.length} changes during the fault: p50 ${Math.round(quantile(latencies, 0.5))} ms, slowest ${
      Math.round(slowest)
    } ms`
  )
  trial.check(latencies.length > 20, "hardly any change was made during the fault")
  trial.check(slowest < mostMillis, `a change took ${Math.round(slowest)} ms to its last client`)
}

const silentListen: Fault = {
  id: "F5",
  name: "LISTEN silently dead",
  injected: "the proxy swallows everything on the node's LISTEN connection, and keeps it open",
  expected: "the poll covers (every change within 3 s), and the node subscribes anew on another connection within 20 s",
  nodes: 1,
  run: async (trial, stage) => {
    let began = 0
    const ledger = await underLoad(trial, stage, async () => {
      const listening = () => [...stage.store.links].filter((link) => link.isListen && !link.isTorn)
      // The fault before this one may have ended the last one.
      await mustHold("one connection LISTENs", 20_000, () => listening().length === 1)
      const dead = listening()
      began = now()
      for (const link of dead) link.set({ kind: "blackhole" })
      const took = await holdsWithin(20_000, () => listening().some((link) => !dead.includes(link)))
      trial.check(took !== undefined, "nobody noticed within 20 s that LISTEN was dead")
      if (took !== undefined) trial.saw(`subscribed anew after ${seconds(took)}`)
      await sleep(500)
    })
    judgeLatency(trial, ledger, began)
    trial.check(stage.crowd.closes.length === 0, `connections were closed: ${stage.crowd.closesByCode()}`)
  }
}

const lostNotify: Fault = {
  id: "F6",
  name: "NOTIFY lost",
  injected: "the proxy drops every notification on its way to the node, for 8 s",
  expected: "the poll covers: every change within 3 s",
  nodes: 1,
  run: async (trial, stage) => {
    let dropped = 0
    let began = 0
    const ledger = await underLoad(trial, stage, async () => {
      stage.store.set(withoutNotifications(() => dropped += 1), "down")
      began = now()
      await mustHold("notifications are lost", 10_000, () => dropped > 0)
      await sleep(8_000)
    })
    trial.saw(`${dropped} notifications dropped`)
    judgeLatency(trial, ledger, began)
    trial.check(stage.crowd.closes.length === 0, `connections were closed: ${stage.crowd.closesByCode()}`)
  }
}

export const notifications: ReadonlyArray<Fault> = [silentListen, lostNotify]
