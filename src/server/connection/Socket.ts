/** Interface to one client's socket, bounded in both directions. */
import type { Peer } from "#clients/ClientRegistry.ts"
import { type Effect, Schema } from "effect"
import type { Buffer } from "node:buffer"

/** The server or the client has closed the socket. */
export class SocketClosed extends Schema.TaggedError<SocketClosed>()("SocketClosed", {}) {}

/** The peer did not read within the deadline while data waited. */
export class TooSlow extends Schema.TaggedError<TooSlow>()("TooSlow", {}) {}

export type Frame = { readonly _tag: "Text"; readonly text: string } | { readonly _tag: "Binary" }

/** `WsSocket` implements it over the network, the simulation in memory. */
export interface Socket extends Peer {
  /** The next frame. Fails when the socket is closed and all earlier frames were taken. Allows one reader at a time. */
  readonly receive: Effect.Effect<Frame, SocketClosed>
  /** Limits the size of the next message to that of `auth`, because the peer has not authenticated yet. */
  limitNextMessage(): void
  /** Hands complete frames to the socket in one write. Does nothing after `close`. */
  write(frames: ReadonlyArray<Buffer>): void
  /** Returns when all data has left this process. Fails if the peer reads more slowly than the deadline allows. */
  readonly drained: Effect.Effect<void, TooSlow | SocketClosed>
  /** Returns when the socket is closed completely, at most 2 s after `close`. */
  readonly ended: Effect.Effect<void>
}
