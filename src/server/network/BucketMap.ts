/**
 * Rows by id, immutable, in a fixed number of buckets: a change copies one bucket and shares the others. So what is derived
 * from a bucket may be kept for as long as the bucket is the same value, and a change costs its bucket, not the table.
 */
import { Hash, Option } from "effect"

export interface BucketMap<Id extends string, Row> {
  readonly size: number
  readonly buckets: ReadonlyArray<ReadonlyMap<Id, Row>>
}

/** A power of two. With 5,000 rows a bucket has about twenty: few to encode again, and few buckets to join. */
const bucketCount = 256

export const empty = <Id extends string, Row>(): BucketMap<Id, Row> => ({
  size: 0,
  buckets: Array.from({ length: bucketCount }, () => new Map())
})

export const get = <Id extends string, Row>(table: BucketMap<Id, Row>, id: Id): Option.Option<Row> =>
  Option.fromUndefinedOr(table.buckets[bucketOf(id)]?.get(id))

export const has = <Id extends string, Row>(table: BucketMap<Id, Row>, id: Id): boolean =>
  table.buckets[bucketOf(id)]?.has(id) ?? false

export const set = <Id extends string, Row>(table: BucketMap<Id, Row>, id: Id, row: Row): BucketMap<Id, Row> => {
  const index = bucketOf(id)
  const before: ReadonlyMap<Id, Row> = table.buckets[index] ?? new Map()
  const bucket = new Map(before).set(id, row)
  return { size: table.size + bucket.size - before.size, buckets: table.buckets.with(index, bucket) }
}

export const remove = <Id extends string, Row>(table: BucketMap<Id, Row>, id: Id): BucketMap<Id, Row> => {
  const index = bucketOf(id)
  const bucket = new Map(table.buckets[index])
  return bucket.delete(id) ? { size: table.size - 1, buckets: table.buckets.with(index, bucket) } : table
}

export const values = <Id extends string, Row>(table: BucketMap<Id, Row>): ReadonlyArray<Row> =>
  table.buckets.flatMap((bucket) => [...bucket.values()])

function bucketOf(id: string): number {
  return Hash.string(id) & (bucketCount - 1)
}
