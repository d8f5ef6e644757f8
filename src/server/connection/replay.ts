/** Frames that bring a reconnecting client up to date, if they are shorter than a snapshot. */
import { encodeFrames } from "#views/Batch.ts"
import { textFrame } from "#views/frames.ts"
import { encodeConfig, minConfigBytes } from "#views/encodeConfig.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { type NotResumedReason, resume } from "#views/resume.ts"
import type { Receiver } from "#views/deltaMessages.ts"
import type { Resume } from "#schema/messagesFromClients.ts"
import type { Revision } from "#schema/ids.ts"
import type { Buffer } from "node:buffer"
import { totalBytes } from "./updatePlan.ts"

export type Replay =
  | { readonly _tag: "Resumed"; readonly frames: ReadonlyArray<Buffer>; readonly lastMessageRevision: Revision }
  | { readonly _tag: "NotResumed"; readonly reason: NotResumedReason }

export const replayFor = (state: NetworkState, receiver: Receiver, from: Resume): Replay => {
  const resumption = resume(state, receiver, from)
  if (resumption._tag === "NotResumed") return resumption
  const frames = encodeFrames(resumption.messages, receiver.level, from.revision)
  const bytes = totalBytes(frames)
  // The exact size costs an encoding, so that the lower bound is compared first.
  if (bytes > minConfigBytes(state, receiver.ref) && bytes > configBytes(state, receiver)) {
    return { _tag: "NotResumed", reason: "cheaper" }
  }
  return { _tag: "Resumed", frames, lastMessageRevision: resumption.messages.at(-1)?.revision ?? from.revision }
}

function configBytes(state: NetworkState, { level, ref }: Receiver): number {
  const config = encodeConfig(state, ref, level)
  return config === undefined ? 0 : textFrame(config.own).length +
    config.shared.reduce((sum, { text }) => sum + text.length, 0)
}
