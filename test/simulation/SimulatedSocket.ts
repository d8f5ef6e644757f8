/** Simulated TCP connection with a WebSocket: `Socket` for the server, callbacks for the client. */
import { closeCodes, type CloseReason } from "#schema/codes.ts"
import { type Frame, type Socket, SocketClosed, TooSlow } from "#connection/Socket.ts"
import { Effect } from "effect"
import type { Buffer } from "node:buffer"
import { textsOf } from "./frames.ts"
import type { Process } from "./Process.ts"
import type { World } from "./World.ts"

/** The client's end. */
export interface SocketClient {
  /** Texts of one write of the server. `isWhole` is false when the connection broke inside the write. */
  received(texts: ReadonlyArray<string>, isWhole: boolean): void
  /** The connection is closed; 1006 when it broke. */
  closed(code: number): void
}

/** Bytes above which a client counts as backed up. Smaller than in `WsSocket`, so that simulations reach it. */
const backlogLimit = 2 * 1024
/** Bytes that the kernel buffers although the client reads nothing. */
const kernelBytes = 512
const closeTimeout = 2_000
const drainTimeout = (bytes: number) => 10_000 + Math.round(bytes / 16.384)

type Resume<A, E> = (next: Effect.Effect<A, E>) => void

interface Item {
  readonly bytes: number
  readonly frames: ReadonlyArray<Buffer>
  /** Code of a close frame. */
  readonly code: number | undefined
}

const closedEffect = Effect.fail(new SocketClosed())

export class SimulatedSocket implements Socket {
  readonly #world: World
  readonly #process: Process
  readonly #client: SocketClient
  /** Written by the server, and not yet sent to the network. */
  #outgoing: Array<Item> = []
  #waitingBytes = 0
  #writesWhileBackedUp = 0
  #inbox: Array<Frame> = []
  #reader: Resume<Frame, SocketClosed> | undefined
  #drainWaiters: Array<() => void> = []
  #endWaiters: Array<() => void> = []
  #closing = false
  /** The server's end is closed. */
  #serverClosed = false
  /** The client's end is closed. */
  #clientClosed = false
  #lastOut = 0
  #lastIn = 0
  #draining = false
  /** The stream lost data, so that nothing more is delivered. */
  #isBroken = false
  #cancelCloseTimeout: (() => void) | undefined
  /** The server has accepted the connection. */
  isServed = false
  readonly limitNextMessage = (): void => {}
  /** Neither end receives anything, and neither end is notified. */
  isBlackhole = false
  /** Bytes per millisecond that the client reads. */
  rate = Number.POSITIVE_INFINITY
  /** Number of rate changes; cancels transfers scheduled at an older rate. */
  #rateChanges = 0
  /** Maximum latency in milliseconds. */
  latency = 5
  readonly openedAt: number
  /** Times at which the client sent valid frames that can reach the server. */
  readonly validFramesAt: Array<number> = []
  /** Reason for which the server closed the connection. */
  reason: CloseReason | undefined

  constructor(world: World, process: Process, client: SocketClient) {
    this.#world = world
    this.#process = process
    this.#client = client
    this.validFramesAt.push(world.now)
    this.openedAt = world.now
  }

  get isEnded(): boolean {
    return this.#serverClosed
  }

  get isClosing(): boolean {
    return this.#closing
  }

  // ---- server's end

  readonly #arrival: Effect.Effect<Frame, SocketClosed> = Effect.callback<Frame, SocketClosed>((resume) => {
    this.#reader = resume
  })

  readonly receive: Effect.Effect<Frame, SocketClosed> = Effect.suspend(() => {
    const frame = this.#inbox.shift()
    return frame !== undefined ? Effect.succeed(frame) : this.#serverClosed ? closedEffect : this.#arrival
  })

  write(frames: ReadonlyArray<Buffer>): void {
    if (this.#closing || frames.length === 0) return
    if (this.hasBacklog()) {
      // Both fibers of a connection may have checked the backlog just before the other wrote, and a stopping server
      // announces its stop.
      if ((this.#writesWhileBackedUp += 1) > 3) {
        this.#world.violate("I10 bounded", `${this.#waitingBytes} bytes wait for a client, and the server writes more`)
      }
    }
    this.#enqueue({ frames, bytes: frames.reduce((sum, { length }) => sum + length, 0), code: undefined })
  }

  hasBacklog(): boolean {
    return this.#waitingBytes > backlogLimit
  }

  readonly drained: Effect.Effect<void, TooSlow | SocketClosed> = Effect.suspend(() => {
    if (this.#outgoing.length === 0) return Effect.void
    this.#world.count("slow client waited for")
    return Effect.callback<void, SocketClosed>((resume) => {
      if (this.#serverClosed) return resume(closedEffect)
      this.#drainWaiters.push(() => resume(this.#serverClosed ? closedEffect : Effect.void))
    }).pipe(Effect.timeoutOrElse({
      duration: drainTimeout(this.#waitingBytes),
      orElse: () => Effect.fail(new TooSlow())
    }))
  })

  readonly ended: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.#serverClosed) return resume(Effect.void)
    this.#endWaiters.push(() => resume(Effect.void))
  })

  close(reason: CloseReason): void {
    if (this.#closing) return
    this.#closing = true
    this.reason = reason
    this.#inbox = []
    this.#enqueue({ frames: [], bytes: 4, code: closeCodes[reason].code })
    this.#cancelCloseTimeout = this.#process.startTimer(closeTimeout, () => this.#closeServerEnd())
  }

  ping(): void {
    if (!this.#closing) this.#enqueue({ frames: [], bytes: 2, code: undefined })
  }

  // ---- client's end

  send(frame: Frame, isValid: boolean): void {
    if (this.#clientClosed || this.isBlackhole) return
    if (isValid) this.validFramesAt.push(this.#world.now)
    this.#deliverToServer(() => {
      if (this.#serverClosed || this.#closing) return
      const resume = this.#reader
      if (resume === undefined) {
        this.#inbox.push(frame)
        return
      }
      this.#reader = undefined
      resume(Effect.succeed(frame))
    })
  }

  /** The client sends a close frame. */
  closeByClient(): void {
    if (this.#clientClosed) return
    this.#clientClosed = true
    if (!this.isBlackhole) this.#deliverToServer(() => this.#closeServerEnd())
  }

  /** Breaks the connection. Both ends are notified. */
  breakBothEnds(): void {
    this.#process.deliver(1, () => this.#closeServerEnd())
    this.#notifyClient(1)
  }

  /** The server's process or machine died. The client's system notifies the client. */
  reset(): void {
    this.#serverClosed = true
    this.#notifyClient(this.#world.random.between(1, this.latency))
  }

  /** The client gives up. Its end closes at once; the server is notified if anything still gets through. */
  abandon(): void {
    if (this.#clientClosed) return
    this.#clientClosed = true
    if (!this.isBlackhole) this.#process.deliver(this.latency, () => this.#closeServerEnd())
  }

  setRate(rate: number): void {
    this.rate = rate
    this.#draining = false
    this.#rateChanges += 1
    this.#sendWaiting()
  }

  #notifyClient(delay: number): void {
    this.#world.after(delay, () => {
      if (this.#clientClosed) return
      this.#clientClosed = true
      this.#client.closed(1006)
    })
  }

  #deliverToServer(run: () => void): void {
    const at = Math.max(this.#lastIn, this.#world.now + this.#world.random.between(1, this.latency))
    this.#lastIn = at
    this.#process.deliver(at - this.#world.now, run)
  }

  #enqueue(item: Item): void {
    if (this.#serverClosed) return
    this.#outgoing.push(item)
    this.#waitingBytes += item.bytes
    this.#sendWaiting()
  }

  /** Sends what the network accepts now, and the rest as the client reads. */
  #sendWaiting(): void {
    while (this.#outgoing[0] !== undefined && !this.#draining) {
      const item = this.#outgoing[0]
      if (this.isBlackhole) {
        if (item.bytes > kernelBytes) return
        this.#sendNow(item)
        continue
      }
      if (this.rate === Number.POSITIVE_INFINITY) {
        this.#sendNow(item)
        continue
      }
      if (this.rate === 0) return
      this.#draining = true
      const changes = this.#rateChanges
      this.#world.after(Math.ceil(item.bytes / this.rate), () => {
        if (changes !== this.#rateChanges) return
        this.#draining = false
        if (this.#outgoing[0] === item) this.#sendNow(item)
        this.#sendWaiting()
      })
    }
  }

  #sendNow(item: Item): void {
    this.#outgoing.shift()
    this.#waitingBytes -= item.bytes
    if (!this.hasBacklog()) this.#writesWhileBackedUp = 0
    if (this.#outgoing.length === 0) {
      // The server may have written more before its process handles this event.
      this.#process.deliver(0, () => {
        if (this.#outgoing.length === 0) this.#resumeAll(this.#drainWaiters)
      })
    }
    if (this.isBlackhole) return
    const at = Math.max(this.#lastOut, this.#world.now + this.#world.random.between(1, this.latency))
    this.#lastOut = at
    this.#world.after(at - this.#world.now, () => this.#deliver(item))
  }

  #deliver({ code, frames }: Item): void {
    if (this.#clientClosed || this.isBlackhole || this.#isBroken) return
    if (code === undefined) {
      const texts = textsOf(frames)
      const isBroken = texts.length > 1 && this.#world.random.chance(this.#world.breakProbability)
      this.#client.received(isBroken ? texts.slice(0, this.#world.random.int(texts.length)) : texts, !isBroken)
      if (isBroken) {
        this.#isBroken = true
        this.#world.count("connection broke between two frames")
        this.breakBothEnds()
      }
      return
    }
    this.#clientClosed = true
    this.#deliverToServer(() => this.#closeServerEnd())
    this.#client.closed(code)
  }

  #resumeAll(waiting: Array<() => void>): void {
    for (const resume of waiting.splice(0)) resume()
  }

  #closeServerEnd(): void {
    if (this.#serverClosed) return
    this.#closing = true
    this.#serverClosed = true
    this.#outgoing = []
    this.#waitingBytes = 0
    this.#cancelCloseTimeout?.()
    const resume = this.#reader
    this.#reader = undefined
    resume?.(closedEffect)
    this.#resumeAll(this.#drainWaiters)
    this.#resumeAll(this.#endWaiters)
    // The client's end is notified, unless nothing gets through.
    if (!this.isBlackhole) this.#notifyClient(this.latency)
  }
}
