/** One WebSocket with bounds: what waits to be read is held back in TCP, what waits to be written is counted. */
import { closeCodes, type CloseReason } from "#schema/codes.ts"
import { Cause, Effect, Queue, Schema } from "effect"
import type { Buffer } from "node:buffer"
import type { Duplex } from "node:stream"
import type { WebSocket } from "ws"

/** The socket is closed, by whichever side. */
export class SocketClosed extends Schema.TaggedError<SocketClosed>()("SocketClosed", {}) {}

/** The peer has not read for too long while data waited for it. */
export class TooSlow extends Schema.TaggedError<TooSlow>()("TooSlow", {}) {}

export type Frame = { readonly _tag: "Text"; readonly text: string } | { readonly _tag: "Binary" }

export interface Socket {
  /** The next frame; fails once the socket is closed and all that came before has been taken. */
  readonly receive: Effect.Effect<Frame, SocketClosed>
  /** Hands whole frames to the socket in one write. After a close has begun it does nothing. */
  write(frames: ReadonlyArray<Buffer>): void
  /** Bytes that were written and have not left this process. */
  waiting(): number
  /** Returns when nothing is waiting any more; fails when the peer reads more slowly than anybody who means to. */
  readonly drained: Effect.Effect<void, TooSlow | SocketClosed>
  /** Begins the close handshake, once; a peer that does not answer within two seconds is cut off. */
  close(reason: CloseReason): void
  ping(): void
}

/** Above this many unread frames the socket is paused, so that TCP holds the sender back; below the other it goes on. */
const pauseAbove = 64
const resumeBelow = 32

/** What waits may take ten seconds, and one more for every 16 KiB: slower than any link that could carry a tunnel. */
const drainPatienceMillis = (bytes: number): number => 10_000 + bytes / 16.384

const closePatienceMillis = 2_000

/** A peer that pings and does not read would make its pongs pile up. */
const pongLimitBytes = 1024 * 1024

/**
 * `raw` is the stream below `ws`: frames that are already encoded, and shared by many sockets, go straight to it. That is
 * sound as long as `ws` itself only writes whole frames at once, which it does without permessage-deflate.
 */
export const makeSocket = (ws: WebSocket, raw: Duplex): Socket => {
  const inbox = Effect.runSync(Queue.unbounded<Frame, SocketClosed>())
  let closing = false

  const offer = (frame: Frame) => {
    Queue.offerUnsafe(inbox, frame)
    if (Queue.sizeUnsafe(inbox) > pauseAbove && !ws.isPaused) ws.pause()
  }
  ws.on("message", (data, isBinary) => offer(isBinary ? { _tag: "Binary" } : { _tag: "Text", text: String(data) }))
  // Without a listener a faulty frame would end the process; `ws` closes with the right code by itself.
  ws.on("error", () => {})
  ws.on("close", () => {
    closing = true
    Queue.failCauseUnsafe(inbox, Cause.fail(new SocketClosed()))
  })
  ws.on("ping", () => {
    if (raw.writableLength > pongLimitBytes) ws.terminate()
  })

  const receive = Effect.tap(Queue.take(inbox), () =>
    Effect.sync(() => {
      if (ws.isPaused && Queue.sizeUnsafe(inbox) < resumeBelow) ws.resume()
    }))

  const write = (frames: ReadonlyArray<Buffer>) => {
    if (closing) return
    if (frames.length > 1) raw.cork()
    for (const frame of frames) raw.write(frame)
    if (frames.length > 1) raw.uncork()
  }

  const close = (reason: CloseReason) => {
    if (closing) return
    closing = true
    // A paused socket would never see the peer's answer.
    if (ws.isPaused) ws.resume()
    ws.close(closeCodes[reason].code, closeCodes[reason].meaning)
    const cut = setTimeout(() => ws.terminate(), closePatienceMillis)
    ws.once("close", () => clearTimeout(cut))
  }

  return {
    receive,
    write,
    waiting: () => raw.writableLength,
    drained: Effect.suspend(() => untilDrained(ws, raw)),
    close,
    ping: () => {
      if (!closing) ws.ping()
    }
  }
}

function untilDrained(ws: WebSocket, raw: Duplex): Effect.Effect<void, TooSlow | SocketClosed> {
  if (!raw.writableNeedDrain) return Effect.void
  return Effect.callback<void, SocketClosed>((resume) => {
    const drained = () => resume(Effect.void)
    const closed = () => resume(Effect.fail(new SocketClosed()))
    raw.once("drain", drained)
    ws.once("close", closed)
    return Effect.sync(() => {
      raw.off("drain", drained)
      ws.off("close", closed)
    })
  }).pipe(Effect.timeoutOrElse({
    duration: drainPatienceMillis(raw.writableLength),
    orElse: () => Effect.fail(new TooSlow())
  }))
}
