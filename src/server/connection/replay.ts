/** How a view begins on a connection: with what its client has missed, or whole. */
import { framesOf } from "#views/Batch.ts"
import { textFrame } from "#views/frames.ts"
import { encodeConfig, leastConfigBytes } from "#views/encodeConfig.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { type NotResumed, resume } from "#views/resume.ts"
import type { Receiver } from "#views/messages.ts"
import type { Resume } from "#schema/clientMessages.ts"
import type { Revision } from "#schema/ids.ts"
import type { Buffer } from "node:buffer"
import { bytesOf } from "./updatePlan.ts"

/** The frames of what was missed, and the place of the last of them; or why the whole view must be sent. */
export type Missed =
  | { readonly _tag: "Resumed"; readonly frames: ReadonlyArray<Buffer>; readonly told: Revision }
  | { readonly _tag: "NotResumed"; readonly why: NotResumed }

/** What was missed is sent only where it is no longer than the config would be. */
export const missedBy = (state: NetworkState, receiver: Receiver, from: Resume): Missed => {
  const resumption = resume(state, receiver, from)
  if (resumption._tag === "NotResumed") return resumption
  const frames = framesOf(resumption.missed, receiver.level, from.revision)
  const bytes = bytesOf(frames)
  if (bytes > leastConfigBytes(state, receiver.ref) && bytes > configBytes(state, receiver)) {
    return { _tag: "NotResumed", why: "cheaper" }
  }
  return { _tag: "Resumed", frames, told: resumption.missed.at(-1)?.revision ?? from.revision }
}

function configBytes(state: NetworkState, { level, ref }: Receiver): number {
  const config = encodeConfig(state, ref, level)
  return config === undefined ? 0 : textFrame(config.own).length +
    config.shared.reduce((sum, { text }) => sum + text.length, 0)
}
