/** The steps that one audience gets at one go, each encoded once for all its receivers. */
import type { Delta, Step } from "#network/step.ts"
import { encodeMessage } from "#schema/protocol.ts"
import type { Revision } from "#schema/ids.ts"
import { Buffer } from "node:buffer"
import { textFrame } from "./frames.ts"

export class Batch {
  /** The last revision that this audience was told of before; a receiver that has not got it has missed something. */
  readonly previous: Revision
  /** The revision of the last step. */
  readonly revision: Revision
  readonly steps: ReadonlyArray<Step>
  #joined: Buffer | undefined
  readonly #frames = new Map<Step, Buffer>()

  constructor(previous: Revision, steps: readonly [Step, ...ReadonlyArray<Step>]) {
    this.previous = previous
    this.revision = (steps.at(-1) ?? steps[0]).revision
    this.steps = steps
  }

  /** All messages, one frame after the other, as one run of bytes. */
  get frames(): Buffer {
    return this.#joined ??= Buffer.concat(this.steps.map((step) => this.#frame(step)))
  }

  /** Only what is newer than the receiver's revision. */
  framesAfter(revision: Revision): Buffer {
    const first = this.steps[0]
    if (first === undefined || first.revision > revision) return this.frames
    return Buffer.concat(this.steps.filter((step) => step.revision > revision).map((step) => this.#frame(step)))
  }

  #frame(step: Step): Buffer {
    const known = this.#frames.get(step)
    if (known !== undefined) return known
    const frame = encodeDelta(step.delta)
    this.#frames.set(step, frame)
    return frame
  }
}

function encodeDelta(delta: Delta): Buffer {
  return delta._tag === "Message" ? textFrame(encodeMessage(delta.message)) : Buffer.alloc(0)
}
