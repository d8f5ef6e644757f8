/** Measures Control and a bare `ws` server in the same run. docs/performance.md explains the method and the results. */
import { readOptions } from "#conformance/programOptions.ts"
import { mkdir } from "node:fs/promises"
import { availableParallelism, cpus } from "node:os"
import { acks } from "./scenarios/acks.ts"
import { applied } from "./scenarios/waitApplied.ts"
import { burst } from "./scenarios/burst.ts"
import { config } from "./scenarios/largeConfig.ts"
import { create } from "./scenarios/create.ts"
import { failover } from "./scenarios/failover.ts"
import { heartbeats } from "./scenarios/heartbeats.ts"
import { loneChange } from "./scenarios/loneChange.ts"
import { memory } from "./scenarios/memory.ts"
import { mixed } from "./scenarios/burstUnderLoad.ts"
import { outage } from "./scenarios/databaseRestart.ts"
import { patches } from "./scenarios/patches.ts"
import { resume } from "./scenarios/resume.ts"
import { scale } from "./scenarios/scale.ts"
import { scaleState } from "./scenarios/scaleState.ts"
import { slowReader } from "./scenarios/slowReader.ts"
import { storm } from "./scenarios/storm.ts"
import { sustained } from "./scenarios/changesUnderHeartbeats.ts"
import { tunnelThroughput } from "./scenarios/tunnelThroughput.ts"
import { type BenchOptions, BenchRun, type Row, type Scenario } from "./support/BenchRun.ts"
import { killAll, stopAll } from "./support/childProcesses.ts"
import { withTimeout } from "./support/timing.ts"
import { type Database, openDatabase } from "./support/BenchDatabase.ts"
import { renderTable } from "./support/resultTable.ts"
import { removeRunDirectory } from "./support/runDirectory.ts"

const scenarios: ReadonlyArray<Scenario> = [
  loneChange,
  burst,
  create,
  patches,
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
  scaleState,
  failover,
  outage,
  slowReader,
  tunnelThroughput
]

process.on("exit", () => {
  killAll()
  removeRunDirectory()
})

const help = `Measure Control and a bare ws server in the same run, and print a table. docs/performance.md explains it.

Usage: npm run bench -- [options] [SCENARIO...]

Options:
  --only NAME         Run only this scenario, as SCENARIO does; repeat for more
  --quick             Run fewer repetitions
  --profile DIR       Write CPU profiles of Control into DIR
  --help, -h          Show this help

Environment:
  BENCH_DATABASE_URL  Superuser URL of a PostgreSQL server, used in place of the embedded one

Examples:
  npm run bench                                         Run everything, about 15 minutes
  npm run bench -- --quick --only create                Run one scenario with fewer repetitions
  npm run bench -- --only storm --profile profiles      Profile Control during a login storm

Scenarios:
${scenarios.map(({ description, name }) => `  ${name.padEnd(18)}${description}`).join("\n")}`

const { positionals, values } = readOptions(help, {
  allowPositionals: true,
  options: {
    only: { type: "string", multiple: true },
    quick: { type: "boolean", default: false },
    profile: { type: "string" }
  }
})

const names = [...positionals, ...values.only ?? []]
const unknown = names.filter((name) => !scenarios.some((scenario) => scenario.name === name))
const selected = names.length === 0 ? scenarios : scenarios.filter(({ name }) => names.includes(name))
if (unknown.length > 0) {
  process.stderr.write(
    `unknown scenario ${unknown.join(", ")}; use one of ${scenarios.map(({ name }) => name).join(", ")}\n`
  )
  process.exit(2)
}
if (values.profile !== undefined) await mkdir(values.profile, { recursive: true })

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void stopOnSignal())

warnIfFewDescriptors()
const database = await openDatabase()
process.stderr.write(
  `${database.description}; Node ${process.version}, ${availableParallelism()} cores (${cpus()[0]?.model})\n`
)
try {
  const rows: Array<Row> = []
  for (const scenario of selected) {
    rows.push(...await runScenario(database, scenario, { quick: values.quick, profileDir: values.profile }))
  }
  process.stdout.write(`${renderTable(rows)}\n`)
} finally {
  await stopAll()
  await database.close()
}

/** Runs one scenario. After a failure or timeout, returns the completed rows and one row with the reason. */
async function runScenario(database: Database, scenario: Scenario, options: BenchOptions): Promise<ReadonlyArray<Row>> {
  process.stderr.write(`${scenario.name}: ${scenario.description}\n`)
  const bench = new BenchRun(database, scenario.name, options)
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

async function stopOnSignal(): Promise<void> {
  await stopAll()
  await database.close()
  process.exit(130)
}

/** Servers and the load generator hold up to 10,500 sockets each. Node raises the soft limit to the hard limit itself. */
function warnIfFewDescriptors(): void {
  const report: unknown = process.report.getReport()
  const limit = (report as { userLimits?: { open_files?: { hard?: number | string } } }).userLimits?.open_files?.hard
  if (typeof limit === "number" && limit < 12_288) {
    process.stderr.write(
      `the open file limit is ${limit}; scenarios with many clients need 12,288; raise it with ulimit -Hn\n`
    )
  }
}
