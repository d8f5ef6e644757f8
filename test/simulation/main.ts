/**
 * Runs seeds: `node test/simulation/main.ts --seeds 1000 [--from 1] [--jobs 2]`. One of them: `--seed 7 [--trace]`, without
 * some of its commands: `--without 3,4`; `--shrink` finds out which commands a failure needs.
 */
import { fork } from "node:child_process"
import { parseArgs } from "node:util"
import { requiredCoverage } from "./requiredCoverage.ts"
import { describeFailure, failuresOf, mergeSummaries, runSeeds, type Summary } from "./runSeeds.ts"
import { simulate } from "./Simulation.ts"

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "1" },
    jobs: { type: "string", default: "1" },
    "most-failures": { type: "string", default: "20" },
    without: { type: "string", default: "" },
    trace: { type: "boolean", default: false },
    shrink: { type: "boolean", default: false }
  }
})

/** More than any simulation has. */
const mostCommands = 45

const mostFailures = Number(values["most-failures"])

const print = (line: string) => process.stdout.write(`${line}\n`)

if (values.seed !== undefined) one(Number(values.seed))
else if (process.send === undefined) await many(Number(values.from), Number(values.seeds), Number(values.jobs))
else process.send(runSeeds(Number(values.from), Number(values.seeds), mostFailures))

function one(seed: number): void {
  const left = values.without === "" ? [] : values.without.split(",").map(Number)
  const without = values.shrink ? shrunk(seed) : new Set(left)
  const outcome = simulate(seed, { traced: values.trace, without })
  for (const line of outcome.lines) print(line)
  if (values.shrink) print(`--without ${[...without].join()}`)
  for (const failure of failuresOf(outcome)) print(describeFailure(failure))
  if (outcome.violation === undefined) print(`seed ${seed} breaks nothing; trace ${outcome.hash.toString(16)}`)
  process.exitCode = outcome.violation === undefined ? 0 : 1
}

/** The commands that can be left out, one after the other, while the same promise is broken. */
function shrunk(seed: number): ReadonlySet<number> {
  const rule = simulate(seed).violation?.rule
  let without: ReadonlySet<number> = new Set()
  if (rule === undefined) return without
  for (let step = 0; step < mostCommands; step++) {
    const fewer = new Set([...without, step])
    if (simulate(seed, { without: fewer }).violation?.rule === rule) without = fewer
  }
  return without
}

async function many(from: number, seeds: number, jobs: number): Promise<void> {
  const began = performance.now()
  const share = Math.ceil(seeds / jobs)
  const parts = Array.from(
    { length: jobs },
    (_, job) => inProcess(from + job * share, Math.min(share, seeds - job * share))
  )
  const summary = mergeSummaries(await Promise.all(parts))
  for (const name of Object.keys(summary.counters).toSorted()) {
    print(`${String(summary.counters[name]).padStart(9)}  in ${summary.seedsWith[name]} seeds  ${name}`)
  }
  const missing = requiredCoverage.filter((name) => summary.counters[name] === undefined)
  if (missing.length > 0) print(`never happened: ${missing.join(", ")}`)
  for (const failure of summary.failures) print(describeFailure(failure))
  const perSeed = (summary.millis / summary.seeds).toFixed(1)
  const seconds = ((performance.now() - began) / 1_000).toFixed(0)
  print(`${summary.seeds} seeds, ${summary.failures.length} failures, ${seconds} s, ${perSeed} ms a seed`)
  process.exitCode = summary.failures.length === 0 ? 0 : 1
}

function inProcess(from: number, seeds: number): Promise<Summary> {
  const args = ["--from", String(from), "--seeds", String(seeds), "--most-failures", String(mostFailures)]
  return new Promise((resolve, reject) => {
    const child = fork(import.meta.filename, args)
    child.once("message", (summary: Summary) => resolve(summary))
    child.once("exit", (code) => reject(new Error(`a process ended with ${code} and no summary`)))
  })
}
