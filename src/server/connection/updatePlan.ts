/** Decides what to write for waiting updates: their deltas, or one snapshot instead. Pure. */
import type { Position } from "#views/Batch.ts"
import type { Update } from "#feed/ChangeBus.ts"
import type { Receiver } from "#views/deltaMessages.ts"
import type { Timeline } from "#schema/ids.ts"
import type { Buffer } from "node:buffer"

/** A client with more unsent bytes than this gets no further deltas. Its updates are dropped and replaced by one snapshot. */
export const maxBacklogBytes = 1024 * 1024

/** Position of one client on its connection. */
export interface ConnectionPosition extends Position {
  readonly timeline: Timeline
  /** Size of the client's last snapshot. After a replay a lower bound, because the replay was shorter than the snapshot. */
  readonly configBytes: number
}

/** `missed`: true if the client has missed a change, false if no single message describes a change. */
export type Plan =
  | { readonly _tag: "Snapshot"; readonly missed: boolean }
  | { readonly _tag: "Deltas"; readonly frames: ReadonlyArray<Buffer>; readonly position: ConnectionPosition }

/**
 * A batch continues the view if the client has seen the batch before it. Deltas that the view already contains are skipped. A
 * snapshot replaces the deltas if a batch was missed, if no message describes a delta, or if the deltas are longer than
 * the snapshot.
 */
export function planUpdate(updates: ReadonlyArray<Update>, from: ConnectionPosition, receiver: Receiver): Plan {
  const frames: Array<Buffer> = []
  let { revision, lastMessageRevision } = from
  for (const update of updates) {
    if (update === "resync" || update.timeline !== from.timeline) return { _tag: "Snapshot", missed: true }
    if (update.previous > revision) return { _tag: "Snapshot", missed: true }
    if (update.revision <= revision) continue
    const rendered = update.framesFor(receiver, { revision, lastMessageRevision })
    if (rendered === "resync") return { _tag: "Snapshot", missed: false }
    frames.push(...rendered.frames)
    revision = update.revision
    lastMessageRevision = rendered.lastMessageRevision
  }
  if (totalBytes(frames) > Math.max(maxBacklogBytes, from.configBytes)) return { _tag: "Snapshot", missed: true }
  return { _tag: "Deltas", frames, position: { ...from, revision, lastMessageRevision } }
}

export function totalBytes(frames: ReadonlyArray<Buffer>): number {
  return frames.reduce((sum, frame) => sum + frame.length, 0)
}
