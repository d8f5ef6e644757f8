/** What to write to a client that has batches waiting: the steps, or one config in their place. Pure. */
import type { Push } from "#feed/ChangeBus.ts"
import type { Delta } from "#network/step.ts"
import type { ClientRef, Revision } from "#schema/ids.ts"
import type { Buffer } from "node:buffer"

/** More than this is not written on top of what waits: the batches that come meanwhile are dropped, and one config makes up for them. */
export const waitingLimitBytes = 1024 * 1024

/** What a client has been brought up to, and how much that cost when it was done at one go. */
export interface Position {
  readonly revision: Revision
  /** Size of its last config. */
  readonly configBytes: number
}

export type Plan =
  | { readonly _tag: "Config"; readonly missed: boolean }
  | { readonly _tag: "Steps"; readonly frames: ReadonlyArray<Buffer>; readonly revision: Revision }

/**
 * A batch continues the view when its predecessor has been seen; what the view already has is left out. Where something was
 * missed, or a step has no message of its own, or the steps are longer than the whole view, a config takes their place.
 */
export function decide(pushes: ReadonlyArray<Push>, at: Position, client: ClientRef): Plan {
  const frames: Array<Buffer> = []
  let { revision } = at
  for (const push of pushes) {
    if (push === "restart") return { _tag: "Config", missed: true }
    if (push.previous > revision) return { _tag: "Config", missed: true }
    if (push.revision <= revision) continue
    if (push.steps.some((step) => step.revision > revision && needsConfig(step.delta, client))) {
      return { _tag: "Config", missed: false }
    }
    const newer = push.framesAfter(revision)
    if (newer.length > 0) frames.push(newer)
    revision = push.revision
  }
  if (bytesOf(frames) > Math.max(waitingLimitBytes, at.configBytes)) return { _tag: "Config", missed: true }
  return { _tag: "Steps", frames, revision }
}

export function bytesOf(frames: ReadonlyArray<Buffer>): number {
  return frames.reduce((sum, frame) => sum + frame.length, 0)
}

function needsConfig(delta: Delta, client: ClientRef): boolean {
  switch (delta._tag) {
    case "Message":
      return false
    case "Whole":
      return true
    case "WholeFor":
      return delta.gateway === client.id
  }
}
