/** Faults one after the other, on one stage for as long as none has spoiled it. */
import { now } from "#bench/support/clock.ts"
import { seconds } from "./waitUntil.ts"
import { Random } from "#simulation/Random.ts"
import { Stage } from "./TestCluster.ts"
import { type Fault, Trial } from "./FaultRun.ts"

export interface Options {
  readonly clients: number
  readonly seed: number
  readonly repeat: number
  /** Of Node itself, for each node of a stage. */
  readonly execArgv?: ReadonlyArray<string>
}

export type Verdict = "passed" | "failed" | "not tried"

export interface Result {
  readonly fault: Fault
  readonly verdict: Verdict
  readonly seeds: ReadonlyArray<number>
  readonly figures: ReadonlyArray<string>
  readonly failures: ReadonlyArray<string>
  readonly gaps: ReadonlyArray<string>
  /** By the writers, over all of its runs. */
  readonly writes: Trial["writes"]
  readonly millis: number
}

export const totalOf = (all: ReadonlyArray<{ readonly writes: Trial["writes"] }>): Trial["writes"] => {
  const sum = (which: keyof Trial["writes"]) => all.reduce((total, { writes }) => total + writes[which], 0)
  return { acked: sum("acked"), unknown: sum("unknown"), refused: sum("refused") }
}

export const runFaults = async (
  faults: ReadonlyArray<Fault>,
  options: Options,
  stages: Stages,
  print: (line: string) => void
): Promise<ReadonlyArray<Result>> => {
  const results: Array<Result> = []
  try {
    // Those with one node first, so that a stage is made as seldom as can be.
    for (const fault of faults.toSorted((one, other) => one.nodes - other.nodes)) {
      const result = await runFault(fault, options, stages, print)
      results.push(result)
    }
  } finally {
    await stages.close()
  }
  return results
}

/** One run of one fault. A stage on which something went wrong is not used again. */
export const tryFault = async (fault: Fault, options: Options, seed: number, stages: Stages): Promise<Trial> => {
  const trial = new Trial(seed, Random.of(seed, Number(fault.id.slice(1))), options.clients)
  const stage = fault.nodes === 0 ? undefined : await stages.withNodes(fault.nodes)
  try {
    await fault.run(trial, stage ?? nowhere)
  } catch (error) {
    const place = error instanceof Error ? /faults\/\w+\.ts:\d+/u.exec(error.stack ?? "")?.[0] : undefined
    trial.check(false, `${error instanceof Error ? error.message : String(error)} (${place ?? "elsewhere"})`)
  }
  if (trial.failures.length > 0 && stage !== undefined) stage.isSpoiled = true
  return trial
}

const runFault = async (
  fault: Fault,
  options: Options,
  stages: Stages,
  print: (line: string) => void
): Promise<Result> => {
  const began = now()
  const trials: Array<Trial> = []
  for (let turn = 0; turn < options.repeat; turn += 1) {
    const seed = options.seed + turn
    const trial = await tryFault(fault, options, seed, stages)
    trials.push(trial)
    print(`${fault.id} ${fault.name}, seed ${seed}: ${describe(trial)}`)
  }
  const failures = [...new Set(trials.flatMap(({ failures: found }) => found))]
  const gaps = [...new Set(trials.flatMap(({ gaps: found }) => found))]
  const figures = trials.at(-1)?.figures ?? []
  const verdict = failures.length > 0 ? "failed" : figures.length === 0 && gaps.length > 0 ? "not tried" : "passed"
  const result = {
    fault,
    verdict,
    seeds: trials.map(({ seed }) => seed),
    figures,
    failures,
    gaps,
    writes: totalOf(trials)
  } as const
  print(`  ${verdict} in ${seconds(now() - began)}`)
  return { ...result, millis: now() - began }
}

const describe = ({ failures, figures, gaps }: Trial): string =>
  [...figures, ...failures.map((text) => `FAILED: ${text}`), ...gaps.map((text) => `not tried: ${text}`)].join("; ")

/** A fault that makes its own scene must not touch this one. */
const nowhere: Stage = new Proxy({} as Stage, {
  get: () => {
    throw new Error("this fault has no stage")
  }
})

/** The stage in use. Another is made when the faults to come need more nodes, or one was spoiled. */
export class Stages {
  readonly #options: Options
  #current: Stage | undefined

  constructor(options: Options) {
    this.#options = options
  }

  async withNodes(nodes: number): Promise<Stage> {
    const current = this.#current
    if (current !== undefined && !current.isSpoiled && current.options.nodes === nodes) return current
    await this.close()
    const { clients, execArgv = [], seed } = this.#options
    this.#current = await Stage.open({ clients, seed, nodes, execArgv })
    return this.#current
  }

  async close(): Promise<void> {
    const current = this.#current
    this.#current = undefined
    await current?.close()
  }
}
