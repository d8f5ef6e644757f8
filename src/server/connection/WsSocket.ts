/** One WebSocket with bounded queues: reading pauses the TCP stream, writing counts the backlog. */
import { closeCodes, type CloseReason } from "#schema/codes.ts"
import { Effect } from "effect"
import type { Buffer } from "node:buffer"
import type { Duplex } from "node:stream"
import type { WebSocket } from "ws"
import { type Bucket, debtMillis, fullBucket, type Rate, spendIntoDebt } from "#rateLimit/TokenBucket.ts"
import { maxAuthMessageBytes } from "#session/messageLimits.ts"
import { maxBacklogBytes } from "./updatePlan.ts"
import { type Frame, type Socket, SocketClosed, TooSlow } from "./Socket.ts"

type Resume = (next: Effect.Effect<Frame, SocketClosed>) => void

/** Above this number of unread frames the socket is paused, so that TCP slows down the sender. */
const maxUnreadFrames = 16

/** Below this number of unread frames a paused socket is resumed. */
const resumeBelow = 8

/** 10 s plus 1 s for every 16 KiB. Any link that can carry a tunnel is faster. */
const drainTimeoutMillis = (bytes: number): number => 10_000 + bytes / 16.384

const closeTimeoutMillis = 2_000

/** Limit of pings and pongs. */
const controlFrameRate: Rate = { perSecond: 10, burst: 200 }

/** Bytes that an unauthenticated peer may send without completing a message, frame headers included. */
const maxFirstMessageBytes = maxAuthMessageBytes + 64

const closedEffect = Effect.fail(new SocketClosed())

/**
 * `raw` is the stream below `ws`. Encoded frames, which many sockets share, are written to it directly. This requires that `ws`
 * itself writes each frame in one piece, as it does without permessage-deflate.
 */
export class WsSocket implements Socket {
  readonly #ws: WebSocket
  readonly #raw: Duplex
  /** Unread frames; few, because the socket is paused above a limit. */
  readonly #inbox: Array<Frame> = []
  #reader: Resume | undefined
  #closing = false
  readonly #byteLimit: Rate
  #bytes: Bucket
  /** Undefined until the first ping or pong, because most clients send none. */
  #controlFrames: Bucket | undefined
  /** Bytes received for the next message of an unauthenticated peer; undefined if that message is not limited. */
  #firstMessageBytes: number | undefined = 0
  #isFull = false
  /** Runs while reading pauses because the peer exceeded the byte limit. */
  #pauseTimer: NodeJS.Timeout | undefined
  #closed = false

  constructor(ws: WebSocket, raw: Duplex, byteLimit: Rate) {
    this.#ws = ws
    this.#raw = raw
    this.#byteLimit = byteLimit
    this.#bytes = fullBucket(byteLimit, performance.now())
    ws.on("message", (data, isBinary) => {
      this.#firstMessageBytes = undefined
      this.#offer(isBinary ? { _tag: "Binary" } : { _tag: "Text", text: String(data) })
    })
    // `ws` listens first, so a message that these bytes complete has been emitted already.
    raw.on("data", (bytes: Buffer) => this.#bytesReceived(bytes.length))
    // Without a listener an invalid frame would end the process. `ws` itself closes with the right code.
    ws.on("error", ignore)
    ws.on("close", () => this.#end())
    // A peer that pings and does not read would accumulate pongs without limit.
    ws.on("ping", () => this.hasBacklog() ? ws.terminate() : this.#controlFrameReceived())
    ws.on("pong", () => this.#controlFrameReceived())
  }

  /** Created once, because it is awaited after every message. Resuming an interrupted reader has no effect. */
  readonly #arrival: Effect.Effect<Frame, SocketClosed> = Effect.callback<Frame, SocketClosed>((resume) => {
    this.#reader = resume
  })

  readonly receive: Effect.Effect<Frame, SocketClosed> = Effect.suspend(() => {
    if (this.#inbox.length === 0) return this.#closed ? closedEffect : this.#arrival
    const frame = this.#inbox.shift() as Frame
    if (this.#isFull && this.#inbox.length < resumeBelow) {
      this.#isFull = false
      this.#pauseOrResume()
    }
    return Effect.succeed(frame)
  })

  limitNextMessage(): void {
    // An unread frame may be `auth`, and larger messages may follow it.
    if (this.#inbox.length === 0) this.#firstMessageBytes = 0
  }

  write(frames: ReadonlyArray<Buffer>): void {
    if (this.#closing || frames.length === 0) return
    if (frames.length === 1) {
      this.#raw.write(frames[0])
      return
    }
    this.#raw.cork()
    for (const frame of frames) this.#raw.write(frame)
    this.#raw.uncork()
  }

  /** Whether more than 1 MiB of written data has not left this process. */
  hasBacklog(): boolean {
    return this.#raw.writableLength > maxBacklogBytes
  }

  readonly drained: Effect.Effect<void, TooSlow | SocketClosed> = Effect.suspend(() =>
    this.#raw.writableNeedDrain ? untilDrained(this.#ws, this.#raw) : Effect.void
  )

  readonly ended: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.#closed) return resume(Effect.void)
    this.#ws.once("close", () => resume(Effect.void))
  })

  /** Begins the close handshake, once. A peer that does not answer within 2 s is terminated. */
  close(reason: CloseReason): void {
    if (this.#closing) return
    this.#closing = true
    this.#inbox.length = 0
    // A paused socket would never see the peer's answer.
    this.#pauseOrResume()
    this.#ws.close(closeCodes[reason].code, closeCodes[reason].meaning)
    const terminateTimer = setTimeout(() => this.#ws.terminate(), closeTimeoutMillis)
    this.#ws.once("close", () => clearTimeout(terminateTimer))
  }

  ping(): void {
    if (!this.#closing) this.#ws.ping()
  }

  /** Pings and pongs have a limit of their own, because they are no messages. */
  #controlFrameReceived(): void {
    const now = performance.now()
    this.#controlFrames = spendIntoDebt(
      this.#controlFrames ?? fullBucket(controlFrameRate, now),
      controlFrameRate,
      now,
      1
    )
    if (debtMillis(this.#controlFrames, controlFrameRate) > 0) this.close("tooMany")
  }

  /** A peer that exceeds the byte limit is read more slowly: reading pauses until the debt is refilled. */
  #bytesReceived(bytes: number): void {
    this.#bytes = spendIntoDebt(this.#bytes, this.#byteLimit, performance.now(), bytes)
    const pauseMillis = debtMillis(this.#bytes, this.#byteLimit)
    if (this.#closing) return
    if (this.#firstMessageBytes !== undefined && (this.#firstMessageBytes += bytes) > maxFirstMessageBytes) {
      return this.close("tooBig")
    }
    if (pauseMillis === 0 || this.#pauseTimer !== undefined) return
    this.#pauseTimer = setTimeout(() => {
      this.#pauseTimer = undefined
      this.#pauseOrResume()
    }, pauseMillis)
    this.#pauseOrResume()
  }

  /** Pauses the socket for too many unread frames or too many bytes. A closing socket is always read to its end. */
  #pauseOrResume(): void {
    const mustPause = !this.#closing && (this.#isFull || this.#pauseTimer !== undefined)
    if (mustPause && !this.#ws.isPaused) this.#ws.pause()
    if (!mustPause && this.#ws.isPaused) this.#ws.resume()
  }

  #offer(frame: Frame): void {
    // The session has ended with `close`: later frames of the peer are ignored.
    if (this.#closing) return
    const resume = this.#reader
    if (resume !== undefined) {
      this.#reader = undefined
      resume(Effect.succeed(frame))
      return
    }
    this.#inbox.push(frame)
    if (this.#inbox.length > maxUnreadFrames) {
      this.#isFull = true
      this.#pauseOrResume()
    }
  }

  #end(): void {
    this.#closing = true
    this.#closed = true
    clearTimeout(this.#pauseTimer)
    const resume = this.#reader
    this.#reader = undefined
    resume?.(closedEffect)
  }
}

function ignore(): void {}

function untilDrained(ws: WebSocket, raw: Duplex): Effect.Effect<void, TooSlow | SocketClosed> {
  return Effect.callback<void, SocketClosed>((resume) => {
    const drained = () => resume(Effect.void)
    const closed = () => resume(closedEffect)
    raw.once("drain", drained)
    ws.once("close", closed)
    return Effect.sync(() => {
      raw.off("drain", drained)
      ws.off("close", closed)
    })
  }).pipe(Effect.timeoutOrElse({
    duration: drainTimeoutMillis(raw.writableLength),
    orElse: () => Effect.fail(new TooSlow())
  }))
}
