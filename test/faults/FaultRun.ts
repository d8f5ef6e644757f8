/** One run of one fault: what was seen, and what should not have been. */
import type { Random } from "#simulation/Random.ts"
import type { TestCluster } from "./TestCluster.ts"

export class FaultRun {
  readonly failures: Array<string> = []
  readonly observations: Array<string> = []
  /** Why it could not be tried here, wholly or in part. */
  readonly untested: Array<string> = []
  /** Of all ledgers of this run. */
  readonly writes = { acknowledged: 0, unknown: 0, rejected: 0 }
  readonly seed: number
  readonly random: Random
  /** How many clients the run has, for a fault that makes its own scene. */
  readonly fleetSize: number

  constructor(seed: number, random: Random, clients: number) {
    this.seed = seed
    this.random = random
    this.fleetSize = clients
  }

  check(holds: boolean, otherwise: string): void {
    if (!holds) this.failures.push(otherwise)
  }

  observe(figure: string): void {
    this.observations.push(figure)
  }

  /** What of the fault cannot be tried on this machine, and why. */
  notTested(why: string): void {
    this.untested.push(why)
  }
}

export interface Fault {
  /** As in the matrix, `F1` to `F40`. */
  readonly id: string
  readonly name: string
  readonly injected: string
  readonly expected: string
  /** How many nodes the cluster must have; none for a fault that makes its own scene. */
  readonly nodes: 0 | 1 | 2
  readonly execute: (run: FaultRun, cluster: TestCluster) => Promise<void>
}
