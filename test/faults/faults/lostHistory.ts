/** F3 and F4: the database comes back with less than it had, and goes on from there. */
import { sleep } from "#bench/support/clock.ts"
import { underLoad } from "#faults/checkGuarantees.ts"
import { Postgres } from "#faults/Postgres.ts"
import type { Stage } from "#faults/TestCluster.ts"
import type { Fault, Trial } from "#faults/FaultRun.ts"
import { mustHold } from "#faults/waitUntil.ts"
import { execFile } from "node:child_process"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"

const timelinesOf = (stage: Stage): ReadonlySet<string | undefined> =>
  new Set(stage.crowd.clients.filter(({ account }) => account.level === "v1").map(({ viewer }) => viewer.timeline))

/** Changes that will be lost; the last of them has been seen by everybody. */
const changesToLose = async (stage: Stage, count: number): Promise<void> => {
  const [row] = await stage.postgres.query("select id from tunnels order by domain limit 1")
  for (let index = 1; index <= count; index += 1) {
    await stage.postgres.query("update tunnels set target = $1 where id = $2", [`lost-${index}:1`, row?.["id"]])
  }
  if (count > 0)
    await mustHold("the changes that will be lost are seen", 10_000, () => stage.crowd.receipts.has(`lost-${count}:1`))
}

const nobodyHasLostRows = (trial: Trial, stage: Stage): void => {
  const holders = stage.crowd.clients.filter(({ viewer }) => JSON.stringify(viewer.view).includes("lost-"))
  trial.check(holders.length === 0, `${holders.length} clients still have a row that the database has lost`)
}

const failover: Fault = {
  id: "F3",
  name: "Failover with lost tail",
  injected:
    "a copy of the cluster, 30 changes old, is started as a standby, promoted, and takes the place of the other",
  expected: "another timeline: whole configs; no client keeps a row that the database has lost",
  nodes: 1,
  run: async (trial, stage) => {
    const old = stage.postgres
    await old.stop("SIGINT")
    const copy = join(stage.directory, `standby-${stage.random(trial.seed).int(1e9)}`)
    await old.copyTo(copy)
    await old.start()
    await mustHold("the node is ready", 20_000, () => stage.node.isReady())
    await changesToLose(stage, 30)
    const before = timelinesOf(stage)
    stage.store.isRefusing = true
    stage.store.cut()
    await writeFile(join(copy, "postgres", "standby.signal"), "")
    const standby = await Postgres.open(copy)
    await standby.query("select pg_promote()")
    await old.close()
    stage.postgres = standby
    stage.store.target = { host: "127.0.0.1", port: standby.port }
    await stage.heal()
    const after = await mustHold("every client of control.v1 has another timeline", 15_000, () => {
      const timelines = timelinesOf(stage)
      return timelines.size === 1 && [...timelines].every((timeline) => !before.has(timeline))
    })
    trial.saw(`another timeline at every client ${Math.round(after)} ms after the failover`)
    await underLoad(trial, stage, () => sleep(500))
    nobodyHasLostRows(trial, stage)
  }
}

/** The database as it is now under another name: as a dump of it, but made in milliseconds. */
const backUp = async ({ postgres, store }: Stage): Promise<void> => {
  store.isRefusing = true
  store.cut()
  await postgres.administer(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'control'",
    "drop database if exists backup",
    "create database backup template control"
  )
  store.isRefusing = false
}

const restore = ({ postgres }: Stage): Promise<void> =>
  postgres.administer("drop database control with (force)", "alter database backup rename to control")

const olderDump: Fault = {
  id: "F4",
  name: "Restore of an older dump",
  injected:
    "the database is replaced by a copy of itself from k changes ago, in the same cluster, and new changes take their numbers: k = 1 and 500 while the node is stopped, k = 5 while it runs; then the same three by `control restore` of an older file beside the running node",
  expected: "a new timeline each time; no view has anything of what was lost",
  nodes: 1,
  run: async (trial, stage) => {
    for (const count of [1, 5, 500]) {
      const runs = count === 5
      await backUp(stage)
      await mustHold("the node is ready", 20_000, () => stage.node.isReady())
      await changesToLose(stage, count)
      const before = timelinesOf(stage)
      // Its file of how far it has seen the history is written once a second, and when it stops.
      if (!runs) await stage.node.stop()
      stage.store.isRefusing = true
      stage.store.cut()
      await restore(stage)
      for (let index = 0; index < count + 3; index += 1) {
        await stage.postgres.query(
          "update tunnels set target = $1 where id = (select min(id) from tunnels)",
          [`after-${count}-${index}:1`]
        )
      }
      await stage.heal()
      await mustHold(`k = ${count}: every client of control.v1 has another timeline`, 30_000, () => {
        const timelines = timelinesOf(stage)
        return timelines.size === 1 && [...timelines].every((timeline) => !before.has(timeline))
      })
      await underLoad(trial, stage, () => sleep(300), { mayRestart: true })
      nobodyHasLostRows(trial, stage)
      trial.saw(`k = ${count}: noticed`)
    }
    await olderBackup(trial, stage)
  }
}

/** The command as its users run it, beside the nodes, on the same database. */
const control = (stage: Stage, ...args: ReadonlyArray<string>): Promise<unknown> =>
  promisify(execFile)(process.execPath, [join(import.meta.dirname, "..", "..", "..", "bin", "control.mjs"), ...args], {
    env: {
      PATH: process.env["PATH"],
      CONTROL_MASTER_KEY: stage.node.options.env["CONTROL_MASTER_KEY"],
      CONTROL_DATA_DIR: join(stage.directory, "cli"),
      DATABASE_URL: stage.postgres.urlAt(stage.postgres.port)
    }
  })

/** The second half of F4: with Control's own backup, while the node runs and writes go on afterwards. */
const olderBackup = async (trial: Trial, stage: Stage): Promise<void> => {
  for (const count of [1, 5, 500]) {
    const file = join(stage.directory, `${trial.seed}-${count}.backup`)
    await control(stage, "backup", file)
    await changesToLose(stage, count)
    const before = timelinesOf(stage)
    await control(stage, "restore", file, "--replace", "--yes")
    await stage.heal()
    await mustHold(`control restore, k = ${count}: every client of control.v1 has another timeline`, 30_000, () => {
      const timelines = timelinesOf(stage)
      return timelines.size === 1 && [...timelines].every((timeline) => !before.has(timeline))
    })
    await underLoad(trial, stage, () => sleep(300))
    nobodyHasLostRows(trial, stage)
    trial.saw(`control restore, k = ${count}: noticed`)
  }
}

export const history: ReadonlyArray<Fault> = [failover, olderDump]
