/** Command line of the simulator: runs a range of seeds, or one seed. */
import { readOptions } from "#conformance/programOptions.ts"
import { endWithThisProcess } from "#processes/endWithParent.ts"
import { numberOption } from "#support/numberOption.ts"
import { fork } from "node:child_process"
import { requiredCoverage } from "./requiredCoverage.ts"
import { describeFailure, failuresOf, mergeSummaries, runSeeds, type Summary } from "./runSeeds.ts"
import { simulate } from "./Simulation.ts"

const help = `Simulate Control with its clients, networks and database, and check every guarantee of the protocol.

Usage: npm run sim -- [options]

Options:
  --seeds N         Number of seeds; 1000 by default
  --from N          First seed; 1 by default
  --jobs N          Number of processes; 1 by default
  --max-failures N  Stop after this number of failures; 20 by default
  --seed N          Run one seed, with these options:
    --trace         Print every event
    --without A,B   Skip these commands by number
    --shrink        Find the commands that a failure does not need
  --help, -h        Show this help

Examples:
  npm run sim -- --seeds 2000 --jobs 2
  npm run sim -- --seed 7 --trace`

const { values } = readOptions(help, {
  options: {
    seed: { type: "string" },
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "1" },
    jobs: { type: "string", default: "1" },
    "max-failures": { type: "string", default: "20" },
    without: { type: "string", default: "" },
    trace: { type: "boolean", default: false },
    shrink: { type: "boolean", default: false }
  }
})

/** More commands than any simulation has. */
const maxCommands = 45

const maxFailures = numberOption("max-failures", values["max-failures"])

const print = (line: string) => process.stdout.write(`${line}\n`)

const from = numberOption("from", values.from, 0)
const seeds = numberOption("seeds", values.seeds)
if (values.seed !== undefined) runOne(numberOption("seed", values.seed, 0))
else if (process.send === undefined) await runMany(from, seeds, Math.min(seeds, numberOption("jobs", values.jobs)))
else process.send(runSeeds(from, seeds, maxFailures))

function runOne(seed: number): void {
  const skipped = values.without === "" ? [] : values.without.split(",").map(Number)
  const without = values.shrink ? shrink(seed) : new Set(skipped)
  const outcome = simulate(seed, { traced: values.trace, without })
  for (const line of outcome.lines) print(line)
  if (values.shrink) print(`--without ${[...without].join()}`)
  for (const failure of failuresOf(outcome)) print(describeFailure(failure))
  if (outcome.violation === undefined) print(`seed ${seed} passed; hash ${outcome.hash.toString(16)}`)
  process.exitCode = outcome.violation === undefined ? 0 : 1
}

/** Commands that can be skipped, one after another, while the same guarantee stays broken. */
function shrink(seed: number): ReadonlySet<number> {
  const rule = simulate(seed).violation?.rule
  let without: ReadonlySet<number> = new Set()
  if (rule === undefined) return without
  for (let step = 0; step < maxCommands; step++) {
    const candidate = new Set([...without, step])
    if (simulate(seed, { without: candidate }).violation?.rule === rule) without = candidate
  }
  return without
}

async function runMany(from: number, seeds: number, jobs: number): Promise<void> {
  const began = performance.now()
  const share = Math.ceil(seeds / jobs)
  const summaries = Array.from(
    { length: jobs },
    (_, job) => runInChildProcess(from + job * share, Math.min(share, seeds - job * share))
  )
  const summary = mergeSummaries(await Promise.all(summaries))
  for (const name of Object.keys(summary.counters).toSorted()) {
    print(`${String(summary.counters[name]).padStart(9)}  in ${summary.seedsWith[name]} seeds  ${name}`)
  }
  const missing = requiredCoverage.filter((name) => summary.counters[name] === undefined)
  if (missing.length > 0) print(`not covered: ${missing.join(", ")}`)
  for (const failure of summary.failures) print(describeFailure(failure))
  const perSeed = (summary.millis / summary.seeds).toFixed(1)
  const seconds = ((performance.now() - began) / 1_000).toFixed(0)
  print(`${summary.seeds} seeds, ${summary.failures.length} failures, ${seconds} s, ${perSeed} ms a seed`)
  process.exitCode = summary.failures.length === 0 ? 0 : 1
}

function runInChildProcess(from: number, seeds: number): Promise<Summary> {
  const args = ["--from", String(from), "--seeds", String(seeds), "--max-failures", String(maxFailures)]
  return new Promise((resolve, reject) => {
    const child = fork(import.meta.filename, args)
    endWithThisProcess(child)
    child.once("message", (summary: Summary) => resolve(summary))
    child.once("exit", (code) => reject(new Error(`a child process exited with ${code} and sent no summary`)))
  })
}
