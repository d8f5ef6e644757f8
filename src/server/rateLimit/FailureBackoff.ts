/** Delays for addresses that fail repeatedly: each failure doubles the delay. Memory is bounded; no address is locked out. */
import { addressBlock } from "#schema/ids.ts"
import { RecentMap } from "./RecentMap.ts"

interface Failures {
  readonly count: number
  /** Monotonic milliseconds of the latest failure. */
  readonly at: number
}

/** The first failures have no delay, because people mistype. */
const freeFailures = 5
const maxDelayMillis = 2_000
const resetAfterMillis = 60_000
/** The oldest addresses are dropped first. The delay protects the database and need not be exact. */
const maxAddresses = 10_000

export class FailureBackoff {
  readonly #failures = new RecentMap<Failures>(resetAfterMillis, maxAddresses)

  /** Counts a failure of this address and returns the delay of its answer in milliseconds. `at` is in monotonic milliseconds. */
  recordFailure(from: string, at: number): number {
    const address = addressBlock(from)
    const earlier = this.#failures.get(address)
    const count = earlier !== undefined && at - earlier.at < resetAfterMillis ? earlier.count + 1 : 1
    this.#failures.set(address, { count, at }, at)
    return count <= freeFailures ? 0 : Math.min(maxDelayMillis, 50 * 2 ** (count - freeFailures))
  }
}
