/** The deltas that one audience receives at once. Shared messages are encoded once for each protocol level. */
import type { Delta } from "./delta.ts"
import {
  encodeViewMessage,
  includesPrevious,
  isShared,
  type MessageAtRevision,
  messageFor,
  type Receiver
} from "./deltaMessages.ts"
import type { Revision, Timeline } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { Buffer } from "node:buffer"
import { textFrame } from "./frames.ts"

/** A receiver's position: its view is at `revision`; `lastMessageRevision` is the revision of the last message sent to it. */
export interface Position {
  readonly revision: Revision
  readonly lastMessageRevision: Revision
}

/** A batch for one receiver: its frames and the revision of its last message; `resync` if the receiver needs a config. */
export type Rendered = { readonly frames: ReadonlyArray<Buffer>; readonly lastMessageRevision: Revision } | "resync"

/** The frames of all receivers of a level. Only the first frame can differ, because it can contain the previous revision. */
interface SharedFrames {
  readonly messages: ReadonlyArray<MessageAtRevision>
  /** First frames by the revision of the receiver's previous message. */
  readonly first: Map<Revision, Buffer>
  /** All frames after the first, joined. */
  readonly rest: Buffer
}

/** Few receivers have different positions, so first frames beyond this number are not cached. */
const maxFirstFrames = 16

export class Batch {
  /** The history to which its revisions belong. */
  readonly timeline: Timeline
  /** The revision of the audience's previous batch. A receiver whose view is older has missed a batch. */
  readonly previous: Revision
  /** The revision of the last delta. */
  readonly revision: Revision
  /** In order of revision; never empty. */
  readonly deltas: ReadonlyArray<Delta>
  /** `individual`: the messages of at least one delta differ between receivers. */
  readonly #shared = new Map<Level, SharedFrames | "resync" | "individual">()

  constructor(timeline: Timeline, previous: Revision, deltas: readonly [Delta, ...ReadonlyArray<Delta>]) {
    this.timeline = timeline
    this.previous = previous
    this.revision = (deltas.at(-1) ?? deltas[0]).revision
    this.deltas = deltas
  }

  /** The frames of the deltas that are newer than the receiver's view. */
  framesFor(receiver: Receiver, { lastMessageRevision, revision }: Position): Rendered {
    const first = this.deltas[0]
    const isAllNew = first === undefined || first.revision > revision
    const shared = isAllNew ? this.#sharedAt(receiver) : "individual"
    if (shared === "resync") return "resync"
    if (shared !== "individual") return sharedFrames(shared, receiver.level, lastMessageRevision)
    const deltas = isAllNew ? this.deltas : this.deltas.filter((delta) => delta.revision > revision)
    const messages = messagesFor(deltas, receiver)
    return messages === "resync" ? "resync" : {
      frames: encodeFrames(messages, receiver.level, lastMessageRevision),
      lastMessageRevision: lastRevision(messages, lastMessageRevision)
    }
  }

  #sharedAt(receiver: Receiver): SharedFrames | "resync" | "individual" {
    const { level } = receiver
    const cached = this.#shared.get(level)
    if (cached !== undefined) return cached
    const isSharedByAll = this.deltas.every(({ content }) => isShared(content, level))
    const shared = isSharedByAll ? encodeShared(this.deltas, receiver) : "individual"
    this.#shared.set(level, shared)
    return shared
  }
}

/** One frame for each message, for a receiver whose last message had the revision `previous`. */
export const encodeFrames = (
  messages: ReadonlyArray<MessageAtRevision>,
  level: Level,
  previous: Revision
): ReadonlyArray<Buffer> =>
  messages.map(({ message, revision }, index) =>
    textFrame(encodeViewMessage[level](message, revision, messages[index - 1]?.revision ?? previous))
  )

function encodeShared(deltas: ReadonlyArray<Delta>, receiver: Receiver): SharedFrames | "resync" {
  const messages = messagesFor(deltas, receiver)
  if (messages === "resync") return "resync"
  const [first] = messages
  const rest = first === undefined ? [] : encodeFrames(messages.slice(1), receiver.level, first.revision)
  return { messages, first: new Map(), rest: Buffer.concat(rest) }
}

function messagesFor(
  deltas: ReadonlyArray<Delta>,
  receiver: Receiver
): ReadonlyArray<MessageAtRevision> | "resync" {
  const messages: Array<MessageAtRevision> = []
  for (const { content, revision } of deltas) {
    const rendering = messageFor(content, receiver)
    if (rendering._tag === "Resync") return "resync"
    if (rendering._tag === "Message") messages.push({ revision, message: rendering.message })
  }
  return messages
}

function sharedFrames({ first, messages, rest }: SharedFrames, level: Level, previous: Revision): Rendered {
  const [head] = messages
  if (head === undefined) return { frames: [], lastMessageRevision: previous }
  // At a level whose messages do not contain the previous revision, all first frames are equal.
  const key = includesPrevious[level] ? previous : head.revision
  let frame = first.get(key)
  if (frame === undefined) {
    frame = textFrame(encodeViewMessage[level](head.message, head.revision, previous))
    if (first.size < maxFirstFrames) first.set(key, frame)
  }
  return {
    frames: rest.length === 0 ? [frame] : [frame, rest],
    lastMessageRevision: lastRevision(messages, previous)
  }
}

function lastRevision(messages: ReadonlyArray<MessageAtRevision>, previous: Revision): Revision {
  return messages.at(-1)?.revision ?? previous
}
