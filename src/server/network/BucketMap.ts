/**
 * An immutable map of rows by id in a fixed number of buckets. A change copies one bucket and shares the others. A value
 * derived from a bucket stays valid while the bucket is the same object. So a change costs one bucket, not the whole map.
 */
import { Hash, Option } from "effect"

export interface BucketMap<Id extends string, Row> {
  readonly size: number
  readonly buckets: ReadonlyArray<ReadonlyMap<Id, Row>>
}

/** A map that `set` and `remove` change in place. They copy each bucket before its first change only. */
interface EditedMap<Id extends string, Row> extends BucketMap<Id, Row> {
  size: number
  readonly buckets: Array<ReadonlyMap<Id, Row>>
  /** The buckets that are copies already. */
  readonly copies: Map<number, Map<Id, Row>>
}

/** A power of two. With 5,000 rows a bucket has about 20, so few rows are encoded again and few buckets are joined. */
const bucketCount = 256

export const empty = <Id extends string, Row>(): BucketMap<Id, Row> => ({
  size: 0,
  buckets: Array.from({ length: bucketCount }, () => new Map())
})

export const get = <Id extends string, Row>(map: BucketMap<Id, Row>, id: Id): Option.Option<Row> =>
  Option.fromUndefinedOr(map.buckets[bucketOf(id)]?.get(id))

export const has = <Id extends string, Row>(map: BucketMap<Id, Row>, id: Id): boolean =>
  map.buckets[bucketOf(id)]?.has(id) ?? false

/**
 * A copy for many changes in a row, which then cost one copy of each bucket together. No other code may use it before
 * `finishEdit`, because it changes in place.
 */
export const edit = <Id extends string, Row>({ buckets, size }: BucketMap<Id, Row>): BucketMap<Id, Row> => {
  const edited: EditedMap<Id, Row> = { size, buckets: [...buckets], copies: new Map() }
  return edited
}

/** The immutable result of an edit. */
export const finishEdit = <Id extends string, Row>({ buckets, size }: BucketMap<Id, Row>): BucketMap<Id, Row> => ({
  size,
  buckets
})

export const set = <Id extends string, Row>(map: BucketMap<Id, Row>, id: Id, row: Row): BucketMap<Id, Row> => {
  const index = bucketOf(id)
  if (isEdited(map)) return changeInPlace(map, index, (bucket) => bucket.set(id, row))
  const before: ReadonlyMap<Id, Row> = map.buckets[index] ?? new Map()
  const bucket = new Map(before).set(id, row)
  return { size: map.size + bucket.size - before.size, buckets: map.buckets.with(index, bucket) }
}

export const remove = <Id extends string, Row>(map: BucketMap<Id, Row>, id: Id): BucketMap<Id, Row> => {
  const index = bucketOf(id)
  if (isEdited(map)) return changeInPlace(map, index, (bucket) => bucket.delete(id))
  const bucket = new Map(map.buckets[index])
  return bucket.delete(id) ? { size: map.size - 1, buckets: map.buckets.with(index, bucket) } : map
}

export const values = <Id extends string, Row>(map: BucketMap<Id, Row>): ReadonlyArray<Row> =>
  map.buckets.flatMap((bucket) => [...bucket.values()])

function isEdited<Id extends string, Row>(map: BucketMap<Id, Row>): map is EditedMap<Id, Row> {
  return "copies" in map
}

function changeInPlace<Id extends string, Row>(
  map: EditedMap<Id, Row>,
  index: number,
  change: (bucket: Map<Id, Row>) => void
): BucketMap<Id, Row> {
  const bucket = map.copies.get(index) ?? new Map(map.buckets[index])
  map.copies.set(index, bucket)
  map.buckets[index] = bucket
  map.size -= bucket.size
  change(bucket)
  map.size += bucket.size
  return map
}

function bucketOf(id: string): number {
  return Hash.string(id) & (bucketCount - 1)
}
