/**
 * Measures Control beside a bare `ws` server: `npm run bench`, or `npm run bench -- --only storm --quick`. With
 * `--profile DIRECTORY` it also writes CPU profiles of Control. docs/performance.md says what the figures mean.
 */
import { mkdir } from "node:fs/promises"
import { availableParallelism, cpus } from "node:os"
import { parseArgs } from "node:util"
import { acks } from "./scenarios/acks.ts"
import { applied } from "./scenarios/applied.ts"
import { burst } from "./scenarios/burst.ts"
import { config } from "./scenarios/config.ts"
import { create } from "./scenarios/create.ts"
import { failover } from "./scenarios/failover.ts"
import { heartbeats } from "./scenarios/heartbeats.ts"
import { loneChange } from "./scenarios/loneChange.ts"
import { memory } from "./scenarios/memory.ts"
import { mixed } from "./scenarios/mixed.ts"
import { outage } from "./scenarios/outage.ts"
import { resume } from "./scenarios/resume.ts"
import { scale } from "./scenarios/scale.ts"
import { slowReader } from "./scenarios/slowReader.ts"
import { storm } from "./scenarios/storm.ts"
import { sustained } from "./scenarios/sustained.ts"
import { Bench, type BenchOptions, type Row, type Scenario } from "./support/Bench.ts"
import { killAll, stopAll } from "./support/childProcesses.ts"
import { withTimeout } from "./support/clock.ts"
import { type Database, openDatabase } from "./support/Database.ts"
import { renderTable } from "./support/table.ts"
import { removeRunDirectory } from "./support/runDirectory.ts"

const scenarios: ReadonlyArray<Scenario> = [
  loneChange,
  burst,
  create,
  heartbeats,
  sustained,
  storm,
  config,
  memory,
  mixed,
  resume,
  acks,
  applied,
  scale,
  failover,
  outage,
  slowReader
]

process.on("exit", () => {
  killAll()
  removeRunDirectory()
})

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true },
    quick: { type: "boolean", default: false },
    profile: { type: "string" }
  }
})

const chosen = values.only === undefined ? scenarios : scenarios.filter(({ name }) => values.only?.includes(name))
if (chosen.length === 0) {
  process.stderr.write(`--only must be one of: ${scenarios.map(({ name }) => name).join(", ")}\n`)
  process.exit(2)
}
if (values.profile !== undefined) await mkdir(values.profile, { recursive: true })

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void interrupted())

warnOfFewDescriptors()
const database = await openDatabase()
process.stderr.write(
  `${database.description}; Node ${process.version}, ${availableParallelism()} cores (${cpus()[0]?.model})\n`
)
try {
  const rows: Array<Row> = []
  for (const scenario of chosen) {
    rows.push(...await measured(database, scenario, { quick: values.quick, profileDir: values.profile }))
  }
  process.stdout.write(`${renderTable(rows)}\n`)
} finally {
  await stopAll()
  await database.close()
}

/** Its rows; when it fails or takes too long, those that it has reached, and why there are no more. */
async function measured(on: Database, scenario: Scenario, options: BenchOptions): Promise<ReadonlyArray<Row>> {
  process.stderr.write(`${scenario.name}: ${scenario.description}\n`)
  const bench = new Bench(on, scenario.name, options)
  try {
    await withTimeout(scenario.timeoutMillis, scenario.name, scenario.run(bench))
  } catch (error) {
    const [reason] = (error instanceof Error ? error.message : String(error)).trim().split("\n")
    bench.addRow({ label: scenario.name, control: `failed: ${reason}`, bare: "", isMet: false })
    process.exitCode = 1
  } finally {
    await bench.close()
  }
  return bench.rows
}

async function interrupted(): Promise<void> {
  await stopAll()
  await database.close()
  process.exit(130)
}

/** Servers and the load hold up to 10,500 sockets each; Node raises the soft limit to the hard one by itself. */
function warnOfFewDescriptors(): void {
  const report: unknown = process.report.getReport()
  const limit = (report as { userLimits?: { open_files?: { hard?: number | string } } }).userLimits?.open_files?.hard
  if (typeof limit === "number" && limit < 12_288) {
    process.stderr.write(`only ${limit} files may be open (ulimit -Hn): scenarios with many clients need 12,288\n`)
  }
}
