/** One WebSocket with bounds: what waits to be read is held back in TCP, what waits to be written is counted. */
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

/** Above this many unread frames the socket is paused, so that TCP holds the sender back; below the other it goes on. */
const pauseAbove = 16
const resumeBelow = 8

/** What waits may take ten seconds, and one more for every 16 KiB: slower than any link that could carry a tunnel. */
const drainPatienceMillis = (bytes: number): number => 10_000 + bytes / 16.384

const closePatienceMillis = 2_000

/** Of pings and pongs. */
const controlLimit: Rate = { perSecond: 10, burst: 200 }

/** How many bytes may come without a message in them, while nobody knows whose they are: its frames' heads are counted too. */
const firstMessageBytes = maxAuthMessageBytes + 64

const closedEffect = Effect.fail(new SocketClosed())

/**
 * `raw` is the stream below `ws`: frames that are already encoded, and shared by many sockets, go straight to it. That is
 * sound as long as `ws` itself only writes whole frames at once, which it does without permessage-deflate.
 */
export class WsSocket implements Socket {
  readonly #ws: WebSocket
  readonly #raw: Duplex
  /** Frames that nobody has taken yet; few, since the socket is paused above a bound. */
  readonly #inbox: Array<Frame> = []
  #waiting: Resume | undefined
  #closing = false
  readonly #byteLimit: Rate
  #bytes: Bucket
  /** Most clients never ping: then there is none. */
  #controls: Bucket | undefined
  /** What has come of the first message of an unknown peer; undefined as soon as there is a message to judge it by. */
  #unheard: number | undefined = 0
  #isFull = false
  /** Runs while the socket rests since its peer has sent too much. */
  #rest: NodeJS.Timeout | undefined
  #closed = false

  constructor(ws: WebSocket, raw: Duplex, byteLimit: Rate) {
    this.#ws = ws
    this.#raw = raw
    this.#byteLimit = byteLimit
    this.#bytes = fullBucket(byteLimit, performance.now())
    ws.on("message", (data, isBinary) => {
      this.#unheard = undefined
      this.#offer(isBinary ? { _tag: "Binary" } : { _tag: "Text", text: String(data) })
    })
    // `ws` listens first: what was whole in these bytes is a message already.
    raw.on("data", (bytes: Buffer) => this.#came(bytes.length))
    // Without a listener a faulty frame would end the process; `ws` closes with the right code by itself.
    ws.on("error", ignore)
    ws.on("close", () => this.#end())
    // A peer that pings and does not read would make its pongs pile up.
    ws.on("ping", () => this.hasBacklog() ? ws.terminate() : this.#controlled())
    ws.on("pong", () => this.#controlled())
  }

  /** Made once, since it is waited for after every message; who was interrupted meanwhile is resumed in vain. */
  readonly #arrival: Effect.Effect<Frame, SocketClosed> = Effect.callback<Frame, SocketClosed>((resume) => {
    this.#waiting = resume
  })

  readonly receive: Effect.Effect<Frame, SocketClosed> = Effect.suspend(() => {
    if (this.#inbox.length === 0) return this.#closed ? closedEffect : this.#arrival
    const frame = this.#inbox.shift() as Frame
    if (this.#isFull && this.#inbox.length < resumeBelow) {
      this.#isFull = false
      this.#flow()
    }
    return Effect.succeed(frame)
  })

  limitNextMessage(): void {
    // What waits may be `auth`, after which more may be on its way already.
    if (this.#inbox.length === 0) this.#unheard = 0
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

  /** Whether more than 1 MiB was written and has not left this process. */
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

  /** Begins the close handshake, once; a peer that does not answer within two seconds is cut off. */
  close(reason: CloseReason): void {
    if (this.#closing) return
    this.#closing = true
    this.#inbox.length = 0
    // A paused socket would never see the peer's answer.
    this.#flow()
    this.#ws.close(closeCodes[reason].code, closeCodes[reason].meaning)
    const cut = setTimeout(() => this.#ws.terminate(), closePatienceMillis)
    this.#ws.once("close", () => clearTimeout(cut))
  }

  ping(): void {
    if (!this.#closing) this.#ws.ping()
  }

  /** Pings and pongs are no messages, and are counted apart: nobody needs more than a few a second. */
  #controlled(): void {
    const now = performance.now()
    this.#controls = spendIntoDebt(this.#controls ?? fullBucket(controlLimit, now), controlLimit, now, 1)
    if (debtMillis(this.#controls, controlLimit) > 0) this.close("tooMany")
  }

  /** Who sends too much is read from more slowly: what was read beyond the limit is made up for by a rest. */
  #came(bytes: number): void {
    this.#bytes = spendIntoDebt(this.#bytes, this.#byteLimit, performance.now(), bytes)
    const rest = debtMillis(this.#bytes, this.#byteLimit)
    if (this.#closing) return
    if (this.#unheard !== undefined && (this.#unheard += bytes) > firstMessageBytes) return this.close("tooBig")
    if (rest === 0 || this.#rest !== undefined) return
    this.#rest = setTimeout(() => {
      this.#rest = undefined
      this.#flow()
    }, rest)
    this.#flow()
  }

  /** The one place where the socket is paused, for either reason; one that is closing is read to its end. */
  #flow(): void {
    const isHeld = !this.#closing && (this.#isFull || this.#rest !== undefined)
    if (isHeld && !this.#ws.isPaused) this.#ws.pause()
    if (!isHeld && this.#ws.isPaused) this.#ws.resume()
  }

  #offer(frame: Frame): void {
    // After a close has begun the session counts no more, whatever its peer goes on saying.
    if (this.#closing) return
    const resume = this.#waiting
    if (resume !== undefined) {
      this.#waiting = undefined
      resume(Effect.succeed(frame))
      return
    }
    this.#inbox.push(frame)
    if (this.#inbox.length > pauseAbove) {
      this.#isFull = true
      this.#flow()
    }
  }

  #end(): void {
    this.#closing = true
    this.#closed = true
    clearTimeout(this.#rest)
    const resume = this.#waiting
    this.#waiting = undefined
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
    duration: drainPatienceMillis(raw.writableLength),
    orElse: () => Effect.fail(new TooSlow())
  }))
}
