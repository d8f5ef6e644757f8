/**
 * What a whole reading of the rows no longer has, although nobody deleted it: a failed, partial or mistaken reading must
 * never look like an empty network. Pure.
 */
import { type Loss, ofEach, type RowCounts, RowKind } from "#schema/rows.ts"
import { HashMap } from "effect"
import type { NetworkState } from "./NetworkState.ts"
import * as Table from "./Table.ts"

export const none: RowCounts = ofEach(() => 0)

export const countsOf = (state: NetworkState): RowCounts => ({
  agents: state.agents.size,
  gateways: HashMap.size(state.gateways),
  tunnels: state.tunnels.size,
  certificates: state.certificates.size,
  keys: HashMap.size(state.keys)
})

/** How many rows of `before` are not in `after`, whatever else came. */
export const missingFrom = (before: NetworkState, after: NetworkState): RowCounts => ({
  agents: missingRows(before.agents, after.agents),
  gateways: missingKeys(before.gateways, after.gateways),
  tunnels: missingRows(before.tunnels, after.tunnels),
  certificates: missingRows(before.certificates, after.certificates),
  keys: missingKeys(before.keys, after.keys)
})

/** What was known before, without the keys that are not there any more. */
export const withoutLostKeys = (before: NetworkState, after: NetworkState): NetworkState => ({
  ...before,
  keys: HashMap.filter(before.keys, (_, id) => HashMap.has(after.keys, id)),
  keysByHash: HashMap.filter(before.keysByHash, ({ id }) => HashMap.has(after.keys, id))
})

/** The same where only the numbers of before are known. */
export const fewerThan = (before: RowCounts, after: RowCounts): RowCounts =>
  ofEach((kind) => Math.max(0, before[kind] - after[kind]))

/** More than this many rows, and more than half of them, is what no honest history takes away without deleting it. */
const fewest = 10

/** The kinds of which so much is missing, less what was deleted, that somebody has to say that it is meant. */
export const massive = (known: RowCounts, missing: RowCounts, deleted: RowCounts): ReadonlyArray<Loss> =>
  RowKind.literals.map((kind) => ({ kind, known: known[kind], missing: Math.max(0, missing[kind] - deleted[kind]) }))
    .filter(({ known, missing }) => missing > fewest && missing > known / 2)

function missingRows<Id extends string, Row>(before: Table.Table<Id, Row>, after: Table.Table<Id, Row>): number {
  let missing = 0
  for (const bucket of before.buckets) for (const id of bucket.keys()) if (!Table.has(after, id)) missing += 1
  return missing
}

function missingKeys<Id, Row>(before: HashMap.HashMap<Id, Row>, after: HashMap.HashMap<Id, Row>): number {
  let missing = 0
  for (const id of HashMap.keys(before)) if (!HashMap.has(after, id)) missing += 1
  return missing
}
