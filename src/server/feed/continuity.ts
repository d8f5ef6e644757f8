/** Decides whether the change log continues the state of this process. Pure. */
import type { NetworkState } from "#network/NetworkState.ts"
import type { ChangePage } from "#store/ChangeLog.ts"
import type { ChangeTag } from "#store/logPosition.ts"
import type { Snapshot } from "#store/networkSnapshot.ts"
import type { HighWaterMark } from "#store/HighWaterMark.ts"

/** The state of the network, and the tag that identifies its last change. */
export interface TaggedState {
  /** Every change up to `state.revision` is applied. An unreadable row has its last readable version. */
  readonly state: NetworkState
  /** The tag of the change at `state.revision`; null if the log does not have that change. */
  readonly tag: ChangeTag
}

/**
 * Relation of a page to the state. `contiguous`: the page is next. `compacted`: changes between the state and the page were
 * deleted from the log. `timelineChanged`: the page belongs to another timeline. `historyLost`: the timeline is the same, but
 * the database lacks the state's revision or has another change there.
 */
export type Continuity = "contiguous" | "compacted" | "timelineChanged" | "historyLost"

export const continuity = ({ revision, timeline }: NetworkState, tag: ChangeTag, page: ChangePage): Continuity => {
  if (page.timeline !== timeline) return "timelineChanged"
  if (page.newest < revision || differs(tag, page.tagBefore)) return "historyLost"
  const isNext = page.oldest === undefined ? page.newest === revision : page.oldest <= revision + 1
  return isNext ? "contiguous" : "compacted"
}

/** A position that this process, or an earlier one with the same data directory, has read. */
export type KnownPosition = Pick<HighWaterMark, "timeline" | "revision" | "tag">

/** Whether the snapshot lacks changes of the known position's timeline. `found` is the database's tag at that revision. */
export const isBehind = ({ state }: Snapshot, { revision, tag, timeline }: KnownPosition, found: ChangeTag): boolean =>
  state.timeline === timeline && (state.revision < revision || differs(tag, found))

/** A missing tag proves nothing, because the log may have dropped the change. */
function differs(known: ChangeTag, found: ChangeTag): boolean {
  return known !== null && found !== null && known !== found
}
