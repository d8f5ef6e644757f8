/** Many seeds, one after the other, and what came of them. */
import { type Outcome, simulate } from "./Simulation.ts"

export interface Summary {
  readonly seeds: number
  /** Milliseconds of real time. */
  readonly millis: number
  /** How often each interesting thing has happened. */
  readonly counters: Readonly<Record<string, number>>
  /** In how many seeds it has. */
  readonly seedsWith: Readonly<Record<string, number>>
  readonly failures: ReadonlyArray<Failure>
}

export interface Failure {
  readonly seed: number
  readonly rule: string
  readonly text: string
}

/** Runs so many seeds; stops after as many failures as are wanted. */
export const runSeeds = (from: number, count: number, mostFailures = 20): Summary => {
  const began = performance.now()
  const counters: Record<string, number> = {}
  const seedsWith: Record<string, number> = {}
  const failures: Array<Failure> = []
  let seeds = 0
  while (seeds < count && failures.length < mostFailures) {
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

export const failuresOf = ({ seed, violation }: Outcome): ReadonlyArray<Failure> =>
  violation === undefined ? [] : [{ seed, rule: violation.rule, text: violation.text }]

/** For people: which promise was broken, and how to see it happen. */
export const describeFailure = ({ rule, seed, text }: Failure): string =>
  `seed ${seed} broke "${rule}": ${text}\n  node test/simulation/main.ts --seed ${seed} --trace`

export const mergeSummaries = (summaries: ReadonlyArray<Summary>): Summary => ({
  seeds: summaries.reduce((sum, { seeds }) => sum + seeds, 0),
  millis: summaries.reduce((sum, { millis }) => sum + millis, 0),
  counters: added(summaries.map(({ counters }) => counters)),
  seedsWith: added(summaries.map(({ seedsWith }) => seedsWith)),
  failures: summaries.flatMap(({ failures }) => failures)
})

function added(all: ReadonlyArray<Readonly<Record<string, number>>>): Record<string, number> {
  const sum: Record<string, number> = {}
  for (const one of all) for (const [name, count] of Object.entries(one)) sum[name] = (sum[name] ?? 0) + count
  return sum
}
