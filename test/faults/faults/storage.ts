/** F10 to F13: the disk is full, two processes want one data directory, its files are damaged. */
import { sleep } from "#bench/support/clock.ts"
import { type ControlNode } from "#faults/ControlNode.ts"
import {
  createTunnels,
  hashClusterFiles,
  makeEmbeddedNode,
  makeTemporaryDirectory,
  operatorApi,
  removeDirectory,
  stopOrphanedPostgres
} from "#faults/embeddedNode.ts"
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

/** Fills the disk under a node that serves, and judges what it makes of that. */
const fillAndJudge = async (
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
  run.observe(`${acknowledged} writes acknowledged, ${refused} refused while the disk was full`)
  run.check(refused > 0, "the disk was never full")
  const entering = await tryLogin(node.wsPort, agent.apiKey, { patienceMillis: 15_000 })
  run.observe(`a client meanwhile: ${entering.outcome}`)
  run.check(["ready", "1013"].includes(entering.outcome), `a client was answered with ${entering.outcome}`)
  run.check((await fetch(`http://127.0.0.1:${node.apiPort}/healthz`)).ok, "/healthz does not answer")
  await disk.empty()
  await restart()
  const took = await waitUntil(
    30_000,
    async () => (await operator.post("/api/agents", { name: "after" }).catch(() => undefined))?.status === 201
  )
  run.check(took !== undefined, "writing does not go on after there was space again")
  run.observe(`writing again ${formatSeconds(took ?? Number.NaN)} after there was space`)
  const rows = (await countTunnels(node)) ?? 0
  run.check(rows >= acknowledged, `${rows} tunnels of ${acknowledged} acknowledged ones`)
  run.observe(`${rows} rows`)
}

/** As operators count: page by page. */
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
  name: "DB disk full",
  injected: "the external PostgreSQL lies on a tmpfs of 160 MiB, which is filled up and emptied again",
  expected: "writes are answered with 503, the node serves on, and writes again by itself after there is space",
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
      await fillAndJudge(run, node, disk, async () => {
        // A PostgreSQL that could not even write its log has ended itself; whoever runs it starts it again.
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
  name: "Embedded database's disk full",
  injected:
    "the data directory, with the embedded PostgreSQL, lies on a tmpfs of 200 MiB, which is filled up and emptied again",
  expected:
    "writes are answered with 503, the process lives, and writes again by itself after there is space; no acknowledged row is lost",
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
      await fillAndJudge(run, node, disk, async () => {})
      run.check(node.isAlive && node.pid === pid, "the process has ended")
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
  injected:
    "a second process is started on the directory of one that runs, of one under SIGSTOP, and of one that was killed",
  expected:
    "the second ends with 1 before it opens anything, and says who holds it; a dead one's directory is taken over",
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
        run.check(code === 1, `while the first is ${state} the second ended with ${code}`)
        run.check(
          second.output.includes(`process ${first.pid} on ${hostname()}`),
          `the second does not say who holds the directory: ${second.output.slice(-300)}`
        )
        first.signal("SIGCONT")
      }
      run.observe("refused while the first runs, and while it stands still")
      await requireWithin("the first still serves", 10_000, () => first.isReady())
      await first.kill()
      const third = await makeEmbeddedNode(dataDir, "the third")
      nodes.push(third)
      await third.start()
      const found = await operatorApi(third).get(`/api/agents/${agent.id}`)
      run.check(found.status === 200, `after the take-over the agent is ${found.status}`)
      run.observe("taken over from a killed one")
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
  ["PG_VERSION gone", (cluster) => truncateSync(join(cluster, "PG_VERSION"), 0)],
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
  name: "Corrupted data directory",
  injected:
    "pg_control flipped or empty, the write-ahead log truncated, PG_VERSION empty, tables flipped; each in a copy",
  expected:
    "the process ends with 1 and one sentence; the files are not touched, and nothing is begun anew in their place",
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
        run.check(ended !== undefined && !node.isAlive, `${what}: the process serves`)
        if (!node.isAlive) {
          const code = await node.exited
          run.check(code === 1, `${what}: ended with ${code}`)
          const last = node.output.trim()
          run.check(
            /backup|damaged|restore/u.test(node.output),
            `${what}: does not say what to do: ${last.slice(-600)}`
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
