/** Whether what the database says continues what this process knows. Pure. */
import type { NetworkState } from "#network/NetworkState.ts"
import type { Page, Snapshot, Tag } from "#store/ChangeLog.ts"
import type { Mark } from "#store/HighWater.ts"

/**
 * `continued`: the page is what comes next. `missed`: it comes next, but what is between is no longer kept. `renamed`: it is
 * another history, and says so. `lost`: it goes by the same name, and is not what was seen.
 */
export type Continuity = "continued" | "missed" | "renamed" | "lost"

export const continuity = ({ revision, timeline }: NetworkState, tag: Tag, page: Page): Continuity => {
  if (page.timeline !== timeline) return "renamed"
  if (page.newest < revision || differs(tag, page.tagBefore)) return "lost"
  const isNext = page.oldest === undefined ? page.newest === revision : page.oldest <= revision + 1
  return isNext ? "continued" : "missed"
}

/** Whether the database is behind the mark, in the same history; `found` is the tag that it has at the mark's revision. */
export const isBehind = ({ state }: Snapshot, { revision, tag, timeline }: Mark, found: Tag): boolean =>
  state.timeline === timeline && (state.revision < revision || differs(tag, found))

/** A tag that is not there was forgotten, and says nothing. */
function differs(known: Tag, found: Tag): boolean {
  return known !== null && found !== null && known !== found
}
