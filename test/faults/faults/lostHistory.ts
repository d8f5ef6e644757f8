/** F3 and F4: the database comes back without its newest changes. */
import { sleep } from "#bench/support/timing.ts"
import { withWriters } from "#faults/checkGuarantees.ts"
import { Postgres } from "#faults/Postgres.ts"
import type { TestCluster } from "#faults/TestCluster.ts"
import type { Fault, FaultRun } from "#faults/FaultRun.ts"
import { requireWithin } from "#faults/waitUntil.ts"
import { execFile } from "node:child_process"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"

const timelinesOf = (cluster: TestCluster): ReadonlySet<string | undefined> =>
  new Set(cluster.fleet.clients.filter(({ account }) => account.level === "v1").map(({ viewer }) => viewer.timeline))

/** Makes changes that the fault will lose, and waits until clients have received the last of them. */
const makeChangesToLose = async (cluster: TestCluster, count: number): Promise<void> => {
  const [row] = await cluster.postgres.query("select id from tunnels order by domain limit 1")
  for (let index = 1; index <= count; index += 1) {
    await cluster.postgres.query("update tunnels set target = $1 where id = $2", [`lost-${index}:1`, row?.["id"]])
  }
  if (count > 0)
    await requireWithin(
      "the changes that will be lost are seen",
      10_000,
      () => cluster.fleet.receivedAt.has(`lost-${count}:1`)
    )
}

const checkNoLostRows = (run: FaultRun, cluster: TestCluster): void => {
  const holders = cluster.fleet.clients.filter(({ viewer }) => JSON.stringify(viewer.view).includes("lost-"))
  run.check(holders.length === 0, `${holders.length} clients still have a row that the database has lost`)
}

const failover: Fault = {
  id: "F3",
  name: "Failover to a standby without the last changes",
  injected: "a copy of the cluster, 30 changes old, is promoted and replaces the primary",
  expected: "new timeline with full configs; no client keeps a lost row",
  nodes: 1,
  execute: async (run, cluster) => {
    const old = cluster.postgres
    await old.stop("SIGINT")
    const copy = join(cluster.directory, `standby-${cluster.random(run.seed).int(1e9)}`)
    await old.copyTo(copy)
    await old.start()
    await requireWithin("the node is ready", 20_000, () => cluster.node.isReady())
    await makeChangesToLose(cluster, 30)
    const before = timelinesOf(cluster)
    cluster.databaseProxy.isRefusing = true
    cluster.databaseProxy.cut()
    await writeFile(join(copy, "postgres", "standby.signal"), "")
    const standby = await Postgres.open(copy)
    await standby.query("select pg_promote()")
    await old.close()
    cluster.postgres = standby
    cluster.databaseProxy.target = { host: "127.0.0.1", port: standby.port }
    await cluster.heal()
    const after = await requireWithin("every client of control.v1 has another timeline", 15_000, () => {
      const timelines = timelinesOf(cluster)
      return timelines.size === 1 && [...timelines].every((timeline) => !before.has(timeline))
    })
    run.observe(`new timeline at every client ${Math.round(after)} ms after the failover`)
    await withWriters(run, cluster, () => sleep(500))
    checkNoLostRows(run, cluster)
  }
}

/** Copies the database under another name. Equivalent to a dump, but finished within milliseconds. */
const backUp = async ({ postgres, databaseProxy: store }: TestCluster): Promise<void> => {
  store.isRefusing = true
  store.cut()
  await postgres.administer(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'control'",
    "drop database if exists backup",
    "create database backup template control"
  )
  store.isRefusing = false
}

const restore = ({ postgres }: TestCluster): Promise<void> =>
  postgres.administer("drop database control with (force)", "alter database backup rename to control")

const olderDump: Fault = {
  id: "F4",
  name: "Restore of an older backup",
  injected:
    "the database is replaced by its own state k changes ago, and new changes reuse the revisions: k = 1 and 500 with the node stopped, k = 5 with the node running; then the same three values with `control restore` and a running node",
  expected: "a new timeline each time; no client keeps a lost row",
  nodes: 1,
  execute: async (run, cluster) => {
    for (const count of [1, 5, 500]) {
      const runs = count === 5
      await backUp(cluster)
      await requireWithin("the node is ready", 20_000, () => cluster.node.isReady())
      await makeChangesToLose(cluster, count)
      const before = timelinesOf(cluster)
      // The node writes its high-water mark once a second, and when it stops.
      if (!runs) await cluster.node.stop()
      cluster.databaseProxy.isRefusing = true
      cluster.databaseProxy.cut()
      await restore(cluster)
      for (let index = 0; index < count + 3; index += 1) {
        await cluster.postgres.query(
          "update tunnels set target = $1 where id = (select min(id) from tunnels)",
          [`after-${count}-${index}:1`]
        )
      }
      await cluster.heal()
      await requireWithin(`k = ${count}: every client of control.v1 has another timeline`, 30_000, () => {
        const timelines = timelinesOf(cluster)
        return timelines.size === 1 && [...timelines].every((timeline) => !before.has(timeline))
      })
      await withWriters(run, cluster, () => sleep(300), { nodesMayRestart: true })
      checkNoLostRows(run, cluster)
      run.observe(`k = ${count}: detected`)
    }
    await olderBackup(run, cluster)
  }
}

/** Runs the `control` command on the nodes' database, as an operator would. */
const control = (cluster: TestCluster, ...args: ReadonlyArray<string>): Promise<unknown> =>
  promisify(execFile)(process.execPath, [join(import.meta.dirname, "..", "..", "..", "bin", "control.mjs"), ...args], {
    env: {
      PATH: process.env["PATH"],
      CONTROL_MASTER_KEY: cluster.node.options.env["CONTROL_MASTER_KEY"],
      CONTROL_DATA_DIR: join(cluster.directory, "cli"),
      DATABASE_URL: cluster.postgres.urlAt(cluster.postgres.port)
    }
  })

/** Second half of F4: Control's own backup is restored while the node runs. */
const olderBackup = async (run: FaultRun, cluster: TestCluster): Promise<void> => {
  for (const count of [1, 5, 500]) {
    const file = join(cluster.directory, `${run.seed}-${count}.backup`)
    await control(cluster, "backup", file)
    await makeChangesToLose(cluster, count)
    const before = timelinesOf(cluster)
    await control(cluster, "restore", file, "--replace", "--yes")
    await cluster.heal()
    await requireWithin(
      `control restore, k = ${count}: every client of control.v1 has another timeline`,
      30_000,
      () => {
        const timelines = timelinesOf(cluster)
        return timelines.size === 1 && [...timelines].every((timeline) => !before.has(timeline))
      }
    )
    await withWriters(run, cluster, () => sleep(300))
    checkNoLostRows(run, cluster)
    run.observe(`control restore, k = ${count}: detected`)
  }
}

export const history: ReadonlyArray<Fault> = [failover, olderDump]
