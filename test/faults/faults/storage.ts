/** F10 to F13: full disks, two processes on one data directory, and damaged files. */
import { sleep } from "#bench/support/timing.ts"
import { type ControlNode } from "#faults/ControlNode.ts"
import {
  createTunnels,
  hashClusterFiles,
  makeEmbeddedNode,
  makeTemporaryDirectory,
  operatorApi,
  removeDirectory,
  stopOrphanedPostgres
} from "#faults/embeddedNodeHelpers.ts"
import { Postgres } from "#faults/Postgres.ts"
import { tryLogin } from "#faults/tryLogin.ts"
import { cannotMount, mountSmallDisk } from "#faults/smallDisk.ts"
import type { Fault, FaultRun } from "#faults/FaultRun.ts"
import { formatSeconds, requireWithin, waitUntil } from "#faults/waitUntil.ts"
import { randomBytes } from "node:crypto"
import { cpSync, openSync, readdirSync, readFileSync, statSync, truncateSync, writeSync } from "node:fs"
import { chmod } from "node:fs/promises"
import { hostname } from "node:os"
import { join } from "node:path"

/** Fills the disk of a running node, and checks that it rejects writes, keeps running and recovers. */
const fillAndCheck = async (
  run: FaultRun,
  node: ControlNode,
  disk: { fill(leaving: number): Promise<void>; empty(): Promise<void> },
  restart: () => Promise<void>
): Promise<void> => {
  const operator = operatorApi(node)
  const agent = (await operator.post("/api/agents", { name: "home" })).body
  const before = await createTunnels(operator, agent.id, 50, "before")
  await disk.fill(0)
  let acknowledged = before.acknowledged
  let refused = 0
  for (let round = 0; round < 40 && refused < 20; round += 1) {
    const written = await createTunnels(operator, agent.id, 100, `full-${round}`)
    acknowledged += written.acknowledged
    const failed = written.statuses.filter((status) => status !== 201)
    refused += failed.length
    run.check(
      failed.every((status) => status === 503),
      `writes were answered with ${[...new Set(failed)].join(", ")}`
    )
    if (failed.length > 90) break
  }
  run.observe(`${acknowledged} writes acknowledged, ${refused} rejected while the disk was full`)
  run.check(refused > 0, "no write was rejected")
  const entering = await tryLogin(node.wsPort, agent.apiKey, { timeoutMillis: 15_000 })
  run.observe(`a client during the fault: ${entering.outcome}`)
  run.check(["ready", "1013"].includes(entering.outcome), `a client was answered with ${entering.outcome}`)
  run.check((await fetch(`http://127.0.0.1:${node.apiPort}/healthz`)).ok, "/healthz does not answer")
  await disk.empty()
  await restart()
  const took = await waitUntil(
    30_000,
    async () => (await operator.post("/api/agents", { name: "after" }).catch(() => undefined))?.status === 201
  )
  run.check(took !== undefined, "writes do not succeed after space was free again")
  run.observe(`writes succeed again ${formatSeconds(took ?? Number.NaN)} after space was free again`)
  const rows = (await countTunnels(node)) ?? 0
  run.check(rows >= acknowledged, `${rows} tunnels of ${acknowledged} acknowledged ones`)
  run.observe(`${rows} rows`)
}

/** Counts tunnels page by page through the API. */
const countTunnels = async (node: ControlNode): Promise<number | undefined> => {
  const operator = operatorApi(node)
  let count = 0
  let cursor: string | undefined
  do {
    const { body, status } = await operator.get(
      `/api/tunnels?limit=200${cursor === undefined ? "" : `&cursor=${encodeURIComponent(cursor)}`}`
    )
    if (status !== 200) return undefined
    count += body.items.length
    cursor = body.nextCursor ?? undefined
  } while (cursor !== undefined)
  return count
}

const smallSettings = { min_wal_size: "32MB", max_wal_size: "48MB", shared_buffers: "16MB" }

const databaseDisk: Fault = {
  id: "F10",
  name: "Disk of PostgreSQL full",
  injected: "the external PostgreSQL's tmpfs of 160 MiB is filled, then emptied",
  expected: "writes rejected with 503; the node keeps serving, and writes succeed again without a restart of the node",
  nodes: 0,
  execute: async (run) => {
    const directory = await makeTemporaryDirectory()
    await chmod(directory, 0o755)
    const disk = await mountSmallDisk(join(directory, "disk"), 160)
    if (disk === undefined) return run.notTested(cannotMount)
    let postgres: Postgres | undefined
    let node: ControlNode | undefined
    try {
      const database = postgres = await Postgres.open(join(disk.path, "data"), smallSettings)
      node = await makeEmbeddedNode(join(directory, "node"), "the node")
      await node.start({
        DATABASE_URL: database.urlAt(database.port),
        CONTROL_MASTER_KEY: randomBytes(32).toString("base64")
      })
      await fillAndCheck(run, node, disk, async () => {
        // PostgreSQL exits when it cannot write its log. Its operator must restart it.
        if (!database.isRunning || !await database.acceptsConnections()) {
          run.observe("PostgreSQL had stopped and was started again")
          await database.stop("SIGQUIT")
          await database.start()
        }
      })
    } finally {
      await node?.stop()
      await postgres?.close()
      await disk.close()
      removeDirectory(directory)
    }
  }
}

const embeddedDisk: Fault = {
  id: "F11",
  name: "Disk of the embedded PostgreSQL full",
  injected: "the data directory's tmpfs of 200 MiB is filled, then emptied",
  expected: "writes rejected with 503; the process stays alive; writes succeed again; no acknowledged row lost",
  nodes: 0,
  execute: async (run) => {
    const directory = await makeTemporaryDirectory()
    await chmod(directory, 0o755)
    const disk = await mountSmallDisk(join(directory, "disk"), 200)
    if (disk === undefined) return run.notTested(cannotMount)
    let node: ControlNode | undefined
    const dataDir = join(disk.path, "data")
    try {
      node = await makeEmbeddedNode(dataDir)
      await node.start()
      const { pid } = node
      await fillAndCheck(run, node, disk, async () => {})
      run.check(node.isAlive && node.pid === pid, "the process has exited")
    } finally {
      await node?.stop()
      await stopOrphanedPostgres(dataDir)
      await disk.close()
      removeDirectory(directory)
    }
  }
}

const twoProcesses: Fault = {
  id: "F12",
  name: "Two processes on one data directory",
  injected: "a second process starts on the directory of a running, a paused (SIGSTOP) and a killed process",
  expected:
    "the second process exits with 1 before it opens files, and names the holder; a killed process's directory is taken over",
  nodes: 0,
  execute: async (run) => {
    const dataDir = await makeTemporaryDirectory()
    const first = await makeEmbeddedNode(dataDir, "the first")
    const nodes = [first]
    try {
      await first.start()
      const agent = (await operatorApi(first).post("/api/agents", { name: "home" })).body
      for (const state of ["running", "stopped"] as const) {
        if (state === "stopped") first.signal("SIGSTOP")
        const second = await makeEmbeddedNode(dataDir, "the second")
        nodes.push(second)
        second.spawn()
        const code = await second.exited
        run.check(code === 1, `while the first is ${state} the second process exited with ${code}`)
        run.check(
          second.output.includes(`process ${first.pid} on ${hostname()}`),
          `the second does not name the holder of the directory: ${second.output.slice(-300)}`
        )
        first.signal("SIGCONT")
      }
      run.observe("second process refused while the first runs and while it is paused")
      await requireWithin("the first still serves", 10_000, () => first.isReady())
      await first.kill()
      const third = await makeEmbeddedNode(dataDir, "the third")
      nodes.push(third)
      await third.start()
      const found = await operatorApi(third).get(`/api/agents/${agent.id}`)
      run.check(found.status === 200, `after the takeover the agent is ${found.status}`)
      run.observe("directory of a killed process taken over")
    } finally {
      for (const node of nodes) await node.stop()
      await stopOrphanedPostgres(dataDir)
      removeDirectory(dataDir)
    }
  }
}

const damages: ReadonlyArray<readonly [what: string, damage: (cluster: string) => void]> = [
  ["pg_control with flipped bytes", (cluster) => flip(join(cluster, "global", "pg_control"), 16, 64)],
  ["pg_control empty", (cluster) => truncateSync(join(cluster, "global", "pg_control"), 0)],
  ["the log truncated", (cluster) => {
    for (const name of readdirSync(join(cluster, "pg_wal")).filter((each) => /^[0-9A-F]{24}$/u.test(each))) {
      truncateSync(join(cluster, "pg_wal", name), 0)
    }
  }],
  ["PG_VERSION empty", (cluster) => truncateSync(join(cluster, "PG_VERSION"), 0)],
  ["every table with flipped bytes", (cluster) => {
    const base = join(cluster, "base")
    const newest = readdirSync(base).toSorted((one, other) => Number(other) - Number(one))[0] ?? ""
    for (
      const name of readdirSync(join(base, newest)).filter((each) => /^\d+$/u.test(each) && Number(each) >= 16_384)
    ) {
      const file = join(base, newest, name)
      if (statSync(file).size >= 8_192) flip(file, 4_096, 4_000)
    }
  }]
]

const flip = (file: string, from: number, count: number): void => {
  const bytes = readFileSync(file).subarray(from, from + count).map((byte) => byte ^ 0xff)
  writeSync(openSync(file, "r+"), bytes, 0, bytes.length, from)
}

const damaged: Fault = {
  id: "F13",
  name: "Damaged data directory",
  injected:
    "pg_control corrupted or empty, write-ahead log truncated, PG_VERSION empty, tables corrupted; each in a copy",
  expected: "exit code 1 with one clear message; files untouched; no new cluster created",
  nodes: 0,
  execute: async (run) => {
    const directory = await makeTemporaryDirectory()
    const whole = join(directory, "whole")
    const nodes: Array<ControlNode> = []
    try {
      const first = await makeEmbeddedNode(whole)
      nodes.push(first)
      await first.start()
      const agent = (await operatorApi(first).post("/api/agents", { name: "home" })).body
      await createTunnels(operatorApi(first), agent.id, 100, "kept")
      await first.stop()
      for (const [index, [what, damage]] of damages.entries()) {
        const dataDir = join(directory, `damaged-${index}`)
        cpSync(whole, dataDir, { recursive: true })
        damage(join(dataDir, "postgres"))
        const before = hashClusterFiles(dataDir)
        const node = await makeEmbeddedNode(dataDir, what)
        nodes.push(node)
        node.spawn()
        const ended = await waitUntil(40_000, async () => !node.isAlive || await node.isReady())
        run.check(ended !== undefined && !node.isAlive, `${what}: the process keeps serving`)
        if (!node.isAlive) {
          const code = await node.exited
          run.check(code === 1, `${what}: ended with ${code}`)
          const last = node.output.trim()
          run.check(
            /backup|damaged|restore/u.test(node.output),
            `${what}: does not name the next step: ${last.slice(-600)}`
          )
        }
        await node.kill()
        await stopOrphanedPostgres(dataDir)
        if (!what.startsWith("every table"))
          run.check(hashClusterFiles(dataDir) === before, `${what}: the files were changed`)
      }
      run.observe(`${damages.length} damages`)
    } finally {
      for (const node of nodes) await node.stop()
      await sleep(50)
      removeDirectory(directory)
    }
  }
}

export const storage: ReadonlyArray<Fault> = [databaseDisk, embeddedDisk, twoProcesses, damaged]
