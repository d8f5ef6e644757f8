/** One client's socket as a conversation needs it: bounded both ways. `WsSocket` is the real one, a simulation has its own. */
import type { Peer } from "#clients/ClientRegistry.ts"
import { type Effect, Schema } from "effect"
import type { Buffer } from "node:buffer"

/** The socket is closed, by whichever side. */
export class SocketClosed extends Schema.TaggedError<SocketClosed>()("SocketClosed", {}) {}

/** The peer has not read for too long while data waited for it. */
export class TooSlow extends Schema.TaggedError<TooSlow>()("TooSlow", {}) {}

export type Frame = { readonly _tag: "Text"; readonly text: string } | { readonly _tag: "Binary" }

export interface Socket extends Peer {
  /** The next frame; fails once the socket is closed and all that came before has been taken. One reader at a time. */
  readonly receive: Effect.Effect<Frame, SocketClosed>
  /** Its peer has said something and is still unknown: as before its first message, no large one is read from it. */
  stayCautious(): void
  /** Hands whole frames to the socket in one write. After a close has begun it does nothing. */
  write(frames: ReadonlyArray<Buffer>): void
  /** Returns when nothing is waiting any more; fails when the peer reads more slowly than anybody who means to. */
  readonly drained: Effect.Effect<void, TooSlow | SocketClosed>
  /** Returns when the socket is closed for good: two seconds after `close` at the latest. */
  readonly ended: Effect.Effect<void>
}
