/** What to write to a client that has batches waiting: the steps, or one config in their place. Pure. */
import type { Position } from "#views/Batch.ts"
import type { Push } from "#feed/ChangeBus.ts"
import type { Receiver } from "#views/messages.ts"
import type { Timeline } from "#schema/ids.ts"
import type { Buffer } from "node:buffer"

/** More than this is not written on top of what waits: the batches that come meanwhile are dropped, and one config makes up for them. */
export const waitingLimitBytes = 1024 * 1024

/** What a client has been brought up to, and how much that cost when it was done at one go. */
export interface ConnectionPosition extends Position {
  readonly timeline: Timeline
  /** Size of its last config, or less; that a replay was sent in its place was because it is larger. */
  readonly configBytes: number
}

export type Plan =
  | { readonly _tag: "Config"; readonly missed: boolean }
  | { readonly _tag: "Steps"; readonly frames: ReadonlyArray<Buffer>; readonly at: ConnectionPosition }

/**
 * A batch continues the view when its predecessor has been seen; what the view already has is left out. Where something was
 * missed, or a step has no message of its own, or the steps are longer than the whole view, a config takes their place.
 */
export function decide(pushes: ReadonlyArray<Push>, from: ConnectionPosition, receiver: Receiver): Plan {
  const frames: Array<Buffer> = []
  let { revision, told } = from
  for (const push of pushes) {
    if (push === "restart" || push.timeline !== from.timeline) return { _tag: "Config", missed: true }
    if (push.previous > revision) return { _tag: "Config", missed: true }
    if (push.revision <= revision) continue
    const newer = push.framesFor(receiver, { revision, told })
    if (newer === "whole") return { _tag: "Config", missed: false }
    frames.push(...newer.frames)
    revision = push.revision
    told = newer.told
  }
  if (bytesOf(frames) > Math.max(waitingLimitBytes, from.configBytes)) return { _tag: "Config", missed: true }
  return { _tag: "Steps", frames, at: { ...from, revision, told } }
}

export function bytesOf(frames: ReadonlyArray<Buffer>): number {
  return frames.reduce((sum, frame) => sum + frame.length, 0)
}
