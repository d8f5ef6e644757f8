/** Runs a range of seeds and sums up their outcomes. */
import { type Outcome, simulate } from "./Simulation.ts"

export interface Summary {
  readonly seeds: number
  /** Real milliseconds. */
  readonly millis: number
  /** Occurrences of each counted event. */
  readonly counters: Readonly<Record<string, number>>
  /** Number of seeds that contain the event. */
  readonly seedsWith: Readonly<Record<string, number>>
  readonly failures: ReadonlyArray<Failure>
}

export interface Failure {
  readonly seed: number
  readonly rule: string
  readonly text: string
}

/** Runs `count` seeds from `from` on, and stops after `maxFailures` failures. */
export const runSeeds = (from: number, count: number, maxFailures = 20): Summary => {
  const began = performance.now()
  const counters: Record<string, number> = {}
  const seedsWith: Record<string, number> = {}
  const failures: Array<Failure> = []
  let seeds = 0
  while (seeds < count && failures.length < maxFailures) {
    const outcome = simulate(from + seeds)
    seeds += 1
    for (const [name, times] of outcome.counters) {
      counters[name] = (counters[name] ?? 0) + times
      seedsWith[name] = (seedsWith[name] ?? 0) + 1
    }
    failures.push(...failuresOf(outcome))
  }
  return { seeds, millis: performance.now() - began, counters, seedsWith, failures }
}

/** Seeds that run before the event loop of this process gets a turn. */
const batchSize = 25

/** Runs `count` seeds from `from` on. Lets the event loop run after each batch, so that a test runner stays responsive. */
export const runSeedsInBatches = async (from: number, count: number): Promise<Summary> => {
  const summaries: Array<Summary> = []
  for (let done = 0; done < count; done += batchSize) {
    summaries.push(runSeeds(from + done, Math.min(batchSize, count - done)))
    await new Promise((resolve) => setImmediate(resolve))
  }
  return mergeSummaries(summaries)
}

export const failuresOf = ({ seed, violation }: Outcome): ReadonlyArray<Failure> =>
  violation === undefined ? [] : [{ seed, rule: violation.rule, text: violation.text }]

/** Describes the broken guarantee and the command that reproduces it. */
export const describeFailure = ({ rule, seed, text }: Failure): string =>
  `seed ${seed} broke "${rule}": ${text}\n  node test/simulation/main.ts --seed ${seed} --trace`

export const mergeSummaries = (summaries: ReadonlyArray<Summary>): Summary => ({
  seeds: summaries.reduce((sum, { seeds }) => sum + seeds, 0),
  millis: summaries.reduce((sum, { millis }) => sum + millis, 0),
  counters: sumByName(summaries.map(({ counters }) => counters)),
  seedsWith: sumByName(summaries.map(({ seedsWith }) => seedsWith)),
  failures: summaries.flatMap(({ failures }) => failures)
})

function sumByName(all: ReadonlyArray<Readonly<Record<string, number>>>): Record<string, number> {
  const sum: Record<string, number> = {}
  for (const each of all) for (const [name, count] of Object.entries(each)) sum[name] = (sum[name] ?? 0) + count
  return sum
}
