/** How much longer each failure of an address waits for its answer. Memory is bounded; nobody is locked out. */
export interface Failures {
  readonly count: number
  readonly at: number
}

/** The first ones are free: a person mistypes. */
const freeFailures = 5
const longestDelayMillis = 2_000
const forgottenAfterMillis = 60_000
/** The oldest addresses go first: the delay protects the database, and does not need to be perfect. */
const rememberedAddresses = 10_000

/** Counts a failure of this address, and says for how many milliseconds its answer waits. */
export const noteFailure = (failures: Map<string, Failures>, address: string, now: number): number => {
  const before = failures.get(address)
  const count = before !== undefined && now - before.at < forgottenAfterMillis ? before.count + 1 : 1
  failures.delete(address)
  failures.set(address, { count, at: now })
  if (failures.size > rememberedAddresses) failures.delete(failures.keys().next().value ?? address)
  return count <= freeFailures ? 0 : Math.min(longestDelayMillis, 50 * 2 ** (count - freeFailures))
}
