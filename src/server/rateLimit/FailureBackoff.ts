/** How much longer each failure of an address waits for its answer. Memory is bounded; nobody is locked out. */
import { addressBlock } from "#schema/ids.ts"
import { RecentMap } from "./RecentMap.ts"

interface Failed {
  readonly count: number
  readonly at: number
}

/** The first ones are free: a person mistypes. */
const freeFailures = 5
const longestDelayMillis = 2_000
const forgottenAfterMillis = 60_000
/** The oldest addresses go first: the delay protects the database, and does not need to be perfect. */
const rememberedAddresses = 10_000

export class FailureBackoff {
  readonly #lately = new RecentMap<Failed>(forgottenAfterMillis, rememberedAddresses)

  /** Counts a failure from this address, and says for how many milliseconds its answer waits. */
  note(from: string, at: number): number {
    const address = addressBlock(from)
    const before = this.#lately.get(address)
    const count = before !== undefined && at - before.at < forgottenAfterMillis ? before.count + 1 : 1
    this.#lately.note(address, { count, at }, at)
    return count <= freeFailures ? 0 : Math.min(longestDelayMillis, 50 * 2 ** (count - freeFailures))
  }
}
