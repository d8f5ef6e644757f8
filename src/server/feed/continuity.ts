/** Whether what the database says continues what this process knows. Pure. */
import type { NetworkState } from "#network/NetworkState.ts"
import type { Page, Snapshot, Tag } from "#store/ChangeLog.ts"
import type { HighWaterMark } from "#store/HighWaterMark.ts"

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

/** A place in a history that this process, or the one before it, has seen. */
export type Seen = Pick<HighWaterMark, "timeline" | "revision" | "tag">

/** Whether the database is behind what was seen, in the same history; `found` is the tag that it has at that revision. */
export const isBehind = ({ state }: Snapshot, { revision, tag, timeline }: Seen, found: Tag): boolean =>
  state.timeline === timeline && (state.revision < revision || differs(tag, found))

/** A tag that is not there was forgotten, and says nothing. */
function differs(known: Tag, found: Tag): boolean {
  return known !== null && found !== null && known !== found
}
