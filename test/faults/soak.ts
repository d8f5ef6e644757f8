/**
 * One node for hours, under one fault after the other that does not restart it: `npm run soak -- [--minutes 60] [--seed N]
 * [--clients 200] [--rest 20]`. Each fault is judged as in the matrix, and after each the node rests and is measured: what it
 * keeps then must not grow with the hours.
 */
import { now, sleep } from "#bench/support/clock.ts"
import { formatSeconds } from "./waitUntil.ts"
import { Random } from "#simulation/Random.ts"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { endAll } from "./childProcesses.ts"
import { allFaults } from "./allFaults.ts"
import { ClusterPool, runFaultOnce, sumWrites } from "./runFaults.ts"
import { describeUsage, measureUsage, medianOf, type ResourceUsage } from "./resourceUsage.ts"
import type { FaultRun } from "./FaultRun.ts"

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "60" },
    seed: { type: "string", default: "1" },
    clients: { type: "string", default: "200" },
    rest: { type: "string", default: "20" }
  }
})

/** Those after which the same process goes on, and that take no longer than a minute. */
const lasting = new Set(["F1", "F2", "F5", "F6", "F8", "F9", "F21", "F22", "F25", "F26", "F27", "F29"])
const faults = allFaults.filter(({ id }) => lasting.has(id))

const options = {
  clients: Number(values.clients),
  seed: Number(values.seed),
  repeat: 1,
  execArgv: ["--import", join(import.meta.dirname, "preload", "collect.ts")]
}
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
/** More than one after a failure: then another cluster is made. */
const processes = new Set<number>()
const began = now()
const end = began + Number(values.minutes) * 60_000
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
    await sleep(Number(values.rest) * 1_000)
    const seen = await measureUsage(cluster)
    figures.push(seen)
    print(`${fault.id} ${fault.name}: ${describeUsage(seen)}`)
  }
} finally {
  await clusters.close()
}

const quarter = Math.max(1, figures.length >> 2)
const failed = runs.filter(({ failures }) => failures.length > 0)
print(`the first quarter: ${describeUsage(medianOf(figures.slice(0, quarter)))}`)
print(`the last quarter: ${describeUsage(medianOf(figures.slice(-quarter)))}`)
print(
  `${processes.size === 1 ? "one process" : `${processes.size} processes`}; ${
    sumWrites(runs).acknowledged
  } writes acknowledged`
)
process.stdout.write(`${runs.length} faults, ${failed.length} failed\n`)
process.exitCode = failed.length === 0 ? 0 : 1
