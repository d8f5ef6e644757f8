/**
 * What a whole reading of the rows no longer has, although nobody deleted it: a failed, partial or mistaken reading must
 * never look like an empty network. Pure.
 */
import { type Loss, ofEach, type RowCounts, RowKind } from "#schema/rowKinds.ts"
import { HashMap } from "effect"
import type { NetworkState } from "./NetworkState.ts"
import * as Table from "./BucketMap.ts"

export const none: RowCounts = ofEach(() => 0)

export const countsOf = (state: NetworkState): RowCounts => ({
  agents: state.agents.size,
  gateways: HashMap.size(state.gateways),
  tunnels: state.tunnels.size,
  certificates: state.certificates.size,
  keys: HashMap.size(state.keys)
})

/** Which rows of each kind. */
export type RowIds = { readonly [kind in RowKind]: ReadonlySet<string> }

/** The rows of `before` that are not in `after`, whatever else came. */
export const missingFrom = (before: NetworkState, after: NetworkState): RowIds => ({
  agents: missingRows(before.agents, after.agents),
  gateways: missingKeys(before.gateways, after.gateways),
  tunnels: missingRows(before.tunnels, after.tunnels),
  certificates: missingRows(before.certificates, after.certificates),
  keys: missingKeys(before.keys, after.keys)
})

/** How many of the rows that are missing were not deleted; what was deleted and never known makes up for none. */
export const notDeleted = (missing: RowIds, deleted: RowIds): RowCounts =>
  ofEach((kind) => [...missing[kind]].filter((id) => !deleted[kind].has(id)).length)

/** What was known before, without these keys. */
export const withoutKeys = (before: NetworkState, ids: ReadonlySet<string>): NetworkState => ({
  ...before,
  keys: HashMap.filter(before.keys, (_, id) => !ids.has(id)),
  keysByHash: HashMap.filter(before.keysByHash, ({ id }) => !ids.has(id))
})

/** How many rows have come and gone. */
export interface Turnover {
  readonly created: RowCounts
  readonly deleted: RowCounts
}

/** How many rows there must be where only the numbers of before are known. */
export const expectedAfter = (before: RowCounts, { created, deleted }: Turnover): RowCounts =>
  ofEach((kind) => Math.max(0, before[kind] + created[kind] - deleted[kind]))

export const fewerThan = (expected: RowCounts, found: RowCounts): RowCounts =>
  ofEach((kind) => Math.max(0, expected[kind] - found[kind]))

/** More than this many rows, and more than half of them, is what no honest history takes away without deleting it. */
const fewest = 10

/** The kinds of which so much is missing and was not deleted that somebody has to say that it is meant. */
export const massive = (known: RowCounts, missing: RowCounts): ReadonlyArray<Loss> =>
  RowKind.literals.map((kind) => ({ kind, known: known[kind], missing: missing[kind] }))
    .filter(({ known, missing }) => missing > fewest && missing > known / 2)

function missingRows<Id extends string, Row>(
  before: Table.BucketMap<Id, Row>,
  after: Table.BucketMap<Id, Row>
): ReadonlySet<string> {
  const missing = new Set<string>()
  for (const bucket of before.buckets) for (const id of bucket.keys()) if (!Table.has(after, id)) missing.add(id)
  return missing
}

function missingKeys<Id extends string, Row>(
  before: HashMap.HashMap<Id, Row>,
  after: HashMap.HashMap<Id, Row>
): ReadonlySet<string> {
  const missing = new Set<string>()
  for (const id of HashMap.keys(before)) if (!HashMap.has(after, id)) missing.add(id)
  return missing
}
