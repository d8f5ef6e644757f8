/** The steps that one audience gets at one go; what all of its receivers are told alike is encoded once for each level. */
import type { Step } from "./delta.ts"
import { encodePart, isShared, messageFor, namesPrevious, type Placed, type Receiver } from "./messages.ts"
import type { Revision, Timeline } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { Buffer } from "node:buffer"
import { textFrame } from "./frames.ts"

/** Where a receiver is: `revision` is how far its view has come, `told` the place of the last message that it was sent. */
export interface Position {
  readonly revision: Revision
  readonly told: Revision
}

/** What a batch is to one receiver: frames and where they bring it, or that only a config will do. */
export type Told = { readonly frames: ReadonlyArray<Buffer>; readonly told: Revision } | "whole"

/** What every receiver of a level is told: in one piece but for the first frame, which at some levels names what came before. */
interface Shared {
  readonly parts: ReadonlyArray<Placed>
  readonly first: Map<Revision, Buffer>
  readonly rest: Buffer
}

/** Receivers that come from different places are few at a time; more first frames than this are not kept. */
const mostFirstFrames = 16

export class Batch {
  /** The history that its revisions are of. */
  readonly timeline: Timeline
  /** The last revision that this audience was told of before; a receiver that has not got it has missed something. */
  readonly previous: Revision
  /** The revision of the last step. */
  readonly revision: Revision
  readonly steps: ReadonlyArray<Step>
  /** `mixed`: there is a step of which not all are told alike. */
  readonly #shared = new Map<Level, Shared | "whole" | "mixed">()

  constructor(timeline: Timeline, previous: Revision, steps: readonly [Step, ...ReadonlyArray<Step>]) {
    this.timeline = timeline
    this.previous = previous
    this.revision = (steps.at(-1) ?? steps[0]).revision
    this.steps = steps
  }

  /** Only what is newer than the receiver's revision. */
  framesFor(receiver: Receiver, { revision, told }: Position): Told {
    const first = this.steps[0]
    const isAllNew = first === undefined || first.revision > revision
    const shared = isAllNew ? this.#sharedAt(receiver) : "mixed"
    if (shared === "whole") return "whole"
    if (shared !== "mixed") return sharedFrames(shared, receiver.level, told)
    const steps = isAllNew ? this.steps : this.steps.filter((step) => step.revision > revision)
    const parts = partsOf(steps, receiver)
    return parts === "whole" ? "whole" : { frames: framesOf(parts, receiver.level, told), told: lastOf(parts, told) }
  }

  #sharedAt(receiver: Receiver): Shared | "whole" | "mixed" {
    const { level } = receiver
    const known = this.#shared.get(level)
    if (known !== undefined) return known
    const made = this.steps.every(({ delta }) => isShared(delta, level)) ? shareable(this.steps, receiver) : "mixed"
    this.#shared.set(level, made)
    return made
  }
}

/** The frames of these parts, one after the other, for a receiver that was last told of `told`. */
export const framesOf = (parts: ReadonlyArray<Placed>, level: Level, told: Revision): ReadonlyArray<Buffer> =>
  parts.map(({ part, revision }, index) =>
    textFrame(encodePart[level](part, revision, parts[index - 1]?.revision ?? told))
  )

function shareable(steps: ReadonlyArray<Step>, receiver: Receiver): Shared | "whole" {
  const parts = partsOf(steps, receiver)
  if (parts === "whole") return "whole"
  const [first] = parts
  const rest = first === undefined ? [] : framesOf(parts.slice(1), receiver.level, first.revision)
  return { parts, first: new Map(), rest: Buffer.concat(rest) }
}

function partsOf(steps: ReadonlyArray<Step>, receiver: Receiver): ReadonlyArray<Placed> | "whole" {
  const parts: Array<Placed> = []
  for (const { delta, revision } of steps) {
    const telling = messageFor(delta, receiver)
    if (telling._tag === "Whole") return "whole"
    if (telling._tag === "Part") parts.push({ revision, part: telling.part })
  }
  return parts
}

function sharedFrames({ first, parts, rest }: Shared, level: Level, told: Revision): Told {
  const [head] = parts
  if (head === undefined) return { frames: [], told }
  // At a level that does not name what came before, all first frames are the same one.
  const key = namesPrevious[level] ? told : head.revision
  let frame = first.get(key)
  if (frame === undefined) {
    frame = textFrame(encodePart[level](head.part, head.revision, told))
    if (first.size < mostFirstFrames) first.set(key, frame)
  }
  return { frames: rest.length === 0 ? [frame] : [frame, rest], told: lastOf(parts, told) }
}

function lastOf(parts: ReadonlyArray<Placed>, told: Revision): Revision {
  return parts.at(-1)?.revision ?? told
}
