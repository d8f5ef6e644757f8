/** Changes as events for operators, with the row's id but without its content. Pure. */
import type { Change } from "#network/NetworkState.ts"
import { changedRow } from "#network/changedRow.ts"
import type { ControlEvent } from "#schema/events.ts"

export const changeEvents = (changes: ReadonlyArray<Change>): ReadonlyArray<ControlEvent> =>
  changes.map((change) => ({ event: "change", data: { revision: change.revision, ...changedRow(change) } }))
