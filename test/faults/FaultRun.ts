/** One run of one fault: observations, failures and untested parts. */
import type { Random } from "#simulation/Random.ts"
import type { TestCluster } from "./TestCluster.ts"

export class FaultRun {
  readonly failures: Array<string> = []
  readonly observations: Array<string> = []
  /** Parts of the fault that cannot be tested here, with the reason. */
  readonly untested: Array<string> = []
  /** Writes of all ledgers of this run. */
  readonly writes = { acknowledged: 0, unknown: 0, rejected: 0 }
  readonly seed: number
  readonly random: Random
  /** Number of clients, for a fault that creates its own cluster. */
  readonly fleetSize: number

  /** Factor for time limits: 1, or more on a machine that runs other tests at the same time. */
  readonly timeFactor: number

  constructor(seed: number, random: Random, clients: number, timeFactor = 1) {
    this.seed = seed
    this.random = random
    this.fleetSize = clients
    this.timeFactor = timeFactor
  }

  check(holds: boolean, otherwise: string): void {
    if (!holds) this.failures.push(otherwise)
  }

  observe(observation: string): void {
    this.observations.push(observation)
  }

  /** Records a part of the fault that cannot be tested on this machine, with the reason. */
  notTested(reason: string): void {
    this.untested.push(reason)
  }
}

export interface Fault {
  /** `F1` to `F40`, as in docs/faults.md. */
  readonly id: string
  readonly name: string
  readonly injected: string
  readonly expected: string
  /** Number of nodes that the fault needs; 0 for a fault that creates its own cluster. */
  readonly nodes: 0 | 1 | 2
  readonly execute: (run: FaultRun, cluster: TestCluster) => Promise<void>
}
