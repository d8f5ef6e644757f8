/** Soak test: one node under random faults, whose resource usage must not grow. */
import { readOptions } from "#conformance/programOptions.ts"
import { now, sleep } from "#bench/support/timing.ts"
import { formatSeconds } from "./waitUntil.ts"
import { Random } from "#simulation/Random.ts"
import { numberOption } from "#support/numberOption.ts"
import { join } from "node:path"
import { soakWithTraffic } from "./trafficSoak.ts"
import { endAll } from "./childProcesses.ts"
import { allFaults } from "./allFaults.ts"
import { ClusterPool, runFaultOnce, sumWrites } from "./runFaults.ts"
import { describeUsage, measureUsage, medianOf, type ResourceUsage } from "./resourceUsage.ts"
import type { FaultRun } from "./FaultRun.ts"

const help =
  `Run one node for hours under random faults that do not restart it. Checks every guarantee after each fault, and measures the idle node.

Usage: npm run soak -- [options]

Options:
  --minutes N  Duration; 60 by default
  --seed N     Seed of the random choices; 1 by default
  --clients N  Number of clients; 200 by default
  --traffic    Send traffic through tunnels in place of faults of the node, restart and kill programs, and count lost requests
  --rest N     Seconds of rest before each measurement; 20 by default
  --help, -h   Show this help`

const { values } = readOptions(help, {
  options: {
    minutes: { type: "string", default: "60" },
    seed: { type: "string", default: "1" },
    clients: { type: "string", default: "200" },
    rest: { type: "string", default: "20" },
    traffic: { type: "boolean", default: false }
  }
})

if (values.traffic) {
  const lost = await soakWithTraffic(
    numberOption("minutes", values.minutes),
    (line) => process.stdout.write(`${line}\n`)
  )
  process.stdout.write(`${lost} requests lost in quiet times\n`)
  process.exit(lost === 0 ? 0 : 1)
}

/** Faults that keep the node's process alive and take at most 1 min. */
const lasting = new Set(["F1", "F2", "F5", "F6", "F8", "F9", "F21", "F22", "F25", "F26", "F27", "F29"])
const faults = allFaults.filter(({ id }) => lasting.has(id))

const options = {
  clients: numberOption("clients", values.clients),
  seed: numberOption("seed", values.seed, 0),
  repeat: 1,
  execArgv: ["--import", join(import.meta.dirname, "preload", "collect.ts")]
}
const durationMillis = numberOption("minutes", values.minutes) * 60_000
const restMillis = numberOption("rest", values.rest, 0) * 1_000
const random = Random.of(options.seed, 0x50a6)
const clusters = new ClusterPool(options)
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    endAll()
    process.exit(130)
  })
}

const runs: Array<FaultRun> = []
const figures: Array<ResourceUsage> = []
/** Process ids. A failed check creates another cluster, and so another process. */
const processes = new Set<number>()
const began = now()
const end = began + durationMillis
const print = (line: string) => process.stdout.write(`${formatSeconds(now() - began)} ${line}\n`)
try {
  for (let turn = 0; now() < end; turn += 1) {
    const fault = random.pick(faults)
    if (fault === undefined) break
    const run = await runFaultOnce(fault, options, options.seed + turn, clusters)
    runs.push(run)
    for (const failure of run.failures) print(`${fault.id} FAILED with seed ${run.seed}: ${failure}`)
    const cluster = await clusters.acquire(1)
    processes.add(cluster.node.pid)
    await sleep(restMillis)
    const seen = await measureUsage(cluster)
    figures.push(seen)
    print(`${fault.id} ${fault.name}: ${describeUsage(seen)}`)
  }
} finally {
  await clusters.close()
}

const quarter = Math.max(1, figures.length >> 2)
const failed = runs.filter(({ failures }) => failures.length > 0)
print(`first quarter: ${describeUsage(medianOf(figures.slice(0, quarter)))}`)
print(`last quarter: ${describeUsage(medianOf(figures.slice(-quarter)))}`)
print(
  `${processes.size === 1 ? "one process" : `${processes.size} processes`}; ${
    sumWrites(runs).acknowledged
  } writes acknowledged`
)
process.stdout.write(`${runs.length} faults, ${failed.length} failed\n`)
process.exitCode = failed.length === 0 ? 0 : 1
