/** Order statistics. */

/** Quantile by nearest rank: the smallest value that at least this share of values does not exceed. NaN without values. */
export const quantile = (values: Iterable<number>, share: number): number => {
  const sorted = Float64Array.from(values).toSorted()
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN
}

export const median = (values: Iterable<number>): number => quantile(values, 0.5)
