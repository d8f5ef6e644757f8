/** Order statistics. */

/** The smallest value that at least this share of all values do not exceed (nearest rank); NaN of nothing. */
export const quantile = (values: Iterable<number>, share: number): number => {
  const sorted = Float64Array.from(values).toSorted()
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN
}

export const median = (values: Iterable<number>): number => quantile(values, 0.5)
