/** Puts many rows into a network state, which costs one step for each row and not one copy of its bucket. */
import type { Revision, Timeline } from "#schema/ids.ts"
import * as BucketMap from "./BucketMap.ts"
import * as History from "./History.ts"
import { type Change, empty, type NetworkState, putRow } from "./NetworkState.ts"

export class RowLoader {
  /** Changes in place, so no other code may see it before `finish`. */
  #state: NetworkState

  constructor(before: NetworkState) {
    const { agents, certificates, tunnels } = before
    this.#state = {
      ...before,
      agents: BucketMap.edit(agents),
      tunnels: BucketMap.edit(tunnels),
      certificates: BucketMap.edit(certificates)
    }
  }

  put(row: Change): void {
    this.#state = putRow(this.#state, row)
  }

  /** The state with all rows. The loader must not be used afterwards. */
  finish(): NetworkState {
    const { agents, certificates, tunnels } = this.#state
    return {
      ...this.#state,
      agents: BucketMap.finishEdit(agents),
      tunnels: BucketMap.finishEdit(tunnels),
      certificates: BucketMap.finishEdit(certificates)
    }
  }
}

/** A state with these rows added or replaced. */
export const putRows = (before: NetworkState, rows: Iterable<Change>): NetworkState => {
  const loader = new RowLoader(before)
  for (const row of rows) loader.put(row)
  return loader.finish()
}

/** The state of all rows read at one revision, with the history of the changes before. */
export const load = (
  timeline: Timeline,
  revision: Revision,
  rows: Iterable<Change>,
  history: History.History = History.empty(revision)
): NetworkState => ({ ...putRows(empty(timeline, revision), rows), history })
