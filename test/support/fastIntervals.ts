/** Intervals for tests that wait for leases: a fifth of the production values. */
import { type IntervalValues, productionIntervals } from "#time/Intervals.ts"
import { Duration } from "effect"

/** The lease of 2 s is long enough that a loaded machine does not lose it between two renewals. */
export const fastIntervals: IntervalValues = scale(productionIntervals, 1 / 5)

function scale(intervals: IntervalValues, factor: number): IntervalValues {
  const shorter = Object.entries(intervals).map(([name, value]) => [name, Duration.times(value, factor)])
  return { ...intervals, ...Object.fromEntries(shorter) }
}
