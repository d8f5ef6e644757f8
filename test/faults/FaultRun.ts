/** One run of one fault: what was seen, and what should not have been. */
import type { Random } from "#simulation/Random.ts"
import type { Stage } from "./TestCluster.ts"

export class Trial {
  readonly failures: Array<string> = []
  readonly figures: Array<string> = []
  /** Why it could not be tried here, wholly or in part. */
  readonly gaps: Array<string> = []
  /** Of all ledgers of this run. */
  readonly writes = { acked: 0, unknown: 0, refused: 0 }
  readonly seed: number
  readonly random: Random
  /** How many clients the run has, for a fault that makes its own scene. */
  readonly clients: number

  constructor(seed: number, random: Random, clients: number) {
    this.seed = seed
    this.random = random
    this.clients = clients
  }

  check(holds: boolean, otherwise: string): void {
    if (!holds) this.failures.push(otherwise)
  }

  saw(figure: string): void {
    this.figures.push(figure)
  }

  /** What of the fault cannot be tried on this machine, and why. */
  notTried(why: string): void {
    this.gaps.push(why)
  }
}

export interface Fault {
  /** As in the matrix, `F1` to `F40`. */
  readonly id: string
  readonly name: string
  readonly injected: string
  readonly expected: string
  /** How many nodes the stage must have; none for a fault that makes its own scene. */
  readonly nodes: 0 | 1 | 2
  readonly run: (trial: Trial, stage: Stage) => Promise<void>
}
