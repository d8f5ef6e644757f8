/** Runs faults one after another, and reuses a test cluster while it is intact. */
import { now } from "#bench/support/timing.ts"
import { formatSeconds } from "./waitUntil.ts"
import { Random } from "#simulation/Random.ts"
import { TestCluster } from "./TestCluster.ts"
import { type Fault, FaultRun } from "./FaultRun.ts"

export interface Options {
  readonly clients: number
  readonly seed: number
  readonly repeat: number
  /** See `FaultRun.timeFactor`. */
  readonly timeFactor?: number
  /** Node.js arguments of every node. */
  readonly execArgv?: ReadonlyArray<string>
}

export type Verdict = "passed" | "failed" | "not tested"

export interface Result {
  readonly fault: Fault
  readonly verdict: Verdict
  readonly seeds: ReadonlyArray<number>
  readonly observations: ReadonlyArray<string>
  readonly failures: ReadonlyArray<string>
  readonly untested: ReadonlyArray<string>
  /** Writes of all runs. */
  readonly writes: FaultRun["writes"]
  readonly millis: number
}

export const sumWrites = (all: ReadonlyArray<{ readonly writes: FaultRun["writes"] }>): FaultRun["writes"] => {
  const sum = (which: keyof FaultRun["writes"]) => all.reduce((total, { writes }) => total + writes[which], 0)
  return { acknowledged: sum("acknowledged"), unknown: sum("unknown"), rejected: sum("rejected") }
}

export const runFaults = async (
  faults: ReadonlyArray<Fault>,
  options: Options,
  clusters: ClusterPool,
  print: (line: string) => void
): Promise<ReadonlyArray<Result>> => {
  const results: Array<Result> = []
  try {
    // Sorted by number of nodes, so that few clusters must be created.
    for (const fault of faults.toSorted((one, other) => one.nodes - other.nodes)) {
      const result = await runFault(fault, options, clusters, print)
      results.push(result)
    }
  } finally {
    await clusters.close()
  }
  return results
}

/** Runs one fault once. A cluster with a failed check is not used again. */
export const runFaultOnce = async (
  fault: Fault,
  options: Options,
  seed: number,
  clusters: ClusterPool
): Promise<FaultRun> => {
  const run = new FaultRun(seed, Random.of(seed, Number(fault.id.slice(1))), options.clients, options.timeFactor)
  const cluster = fault.nodes === 0 ? undefined : await clusters.acquire(fault.nodes)
  try {
    await fault.execute(run, cluster ?? noCluster)
  } catch (error) {
    const location = error instanceof Error ? /faults\/\w+\.ts:\d+/u.exec(error.stack ?? "")?.[0] : undefined
    run.check(false, `${error instanceof Error ? error.message : String(error)} (${location ?? "unknown location"})`)
  }
  if (run.failures.length > 0 && cluster !== undefined) cluster.isUnusable = true
  return run
}

const runFault = async (
  fault: Fault,
  options: Options,
  clusters: ClusterPool,
  print: (line: string) => void
): Promise<Result> => {
  const began = now()
  const runs: Array<FaultRun> = []
  for (let turn = 0; turn < options.repeat; turn += 1) {
    const seed = options.seed + turn
    const run = await runFaultOnce(fault, options, seed, clusters)
    runs.push(run)
    print(`${fault.id} ${fault.name}, seed ${seed}: ${describe(run)}`)
  }
  const failures = [...new Set(runs.flatMap(({ failures: found }) => found))]
  const untested = [...new Set(runs.flatMap(({ untested: found }) => found))]
  const observations = runs.at(-1)?.observations ?? []
  const verdict = failures.length > 0
    ? "failed"
    : observations.length === 0 && untested.length > 0
    ? "not tested"
    : "passed"
  const result = {
    fault,
    verdict,
    seeds: runs.map(({ seed }) => seed),
    observations,
    failures,
    untested,
    writes: sumWrites(runs)
  } as const
  print(`  ${verdict} in ${formatSeconds(now() - began)}`)
  return { ...result, millis: now() - began }
}

const describe = ({ failures, observations, untested }: FaultRun): string =>
  [...observations, ...failures.map((text) => `FAILED: ${text}`), ...untested.map((text) => `not tested: ${text}`)]
    .join("; ")

/** Given to faults that create their own cluster; every access throws. */
const noCluster: TestCluster = new Proxy({} as TestCluster, {
  get: () => {
    throw new Error("this fault runs without a shared cluster")
  }
})

/**
 * Holds the current cluster. Creates another one when a fault needs a different number of nodes or the current one is
 * unusable.
 */
export class ClusterPool {
  readonly #options: Options
  #current: TestCluster | undefined

  constructor(options: Options) {
    this.#options = options
  }

  async acquire(nodes: number): Promise<TestCluster> {
    const current = this.#current
    if (current !== undefined && !current.isUnusable && current.options.nodes === nodes) return current
    await this.close()
    const { clients, execArgv = [], seed } = this.#options
    this.#current = await TestCluster.open({ clients, seed, nodes, execArgv })
    return this.#current
  }

  async close(): Promise<void> {
    const current = this.#current
    this.#current = undefined
    await current?.close()
  }
}
