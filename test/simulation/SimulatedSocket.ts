/** One simulated TCP connection with a WebSocket on it: the server's end is a `Socket`, the client's end is plain callbacks. */
import { closeCodes, type CloseReason } from "#schema/codes.ts"
import { type Frame, type Socket, SocketClosed, TooSlow } from "#connection/Socket.ts"
import { Effect } from "effect"
import type { Buffer } from "node:buffer"
import { textsOf } from "./frames.ts"
import type { Process } from "./Process.ts"
import type { World } from "./World.ts"

/** The client's end. */
export interface SocketClient {
  /** The texts of what the server wrote in one go; not all of them when the connection broke in between. */
  received(texts: ReadonlyArray<string>, isWhole: boolean): void
  /** 1006 when the connection was cut. */
  closed(code: number): void
}

/** As `WsSocket`, at a scale at which it happens in a simulation: a client is backed up above so many bytes. */
const backlogLimit = 2 * 1024
/** What the kernel takes although the peer reads nothing. */
const kernelBytes = 512
const closeTimeout = 2_000
const drainTimeout = (bytes: number) => 10_000 + Math.round(bytes / 16.384)

type Resume<A, E> = (next: Effect.Effect<A, E>) => void

interface Item {
  readonly bytes: number
  readonly frames: ReadonlyArray<Buffer>
  /** A close frame. */
  readonly code: number | undefined
}

const closedEffect = Effect.fail(new SocketClosed())

export class SimulatedSocket implements Socket {
  readonly #world: World
  readonly #process: Process
  readonly #peer: SocketClient
  /** Written and not yet gone from the server's process. */
  #outgoing: Array<Item> = []
  #waitingBytes = 0
  #writesWhileBackedUp = 0
  #inbox: Array<Frame> = []
  #reader: Resume<Frame, SocketClosed> | undefined
  #drainers: Array<() => void> = []
  #enders: Array<() => void> = []
  #closing = false
  /** The server's end is over. */
  #ended = false
  /** The client's end is over. */
  #left = false
  #lastOut = 0
  #lastIn = 0
  #draining = false
  /** Nothing more comes out of it: something before was lost. */
  #isBroken = false
  #keepPatience: (() => void) | undefined
  /** Its server has accepted it. */
  isServed = false
  readonly limitNextMessage = (): void => {}
  /** Nothing gets through in either direction, and nobody is told. */
  isBlackhole = false
  /** What the client reads, in bytes a millisecond. */
  rate = Number.POSITIVE_INFINITY
  /** How often the rate was changed. */
  #rates = 0
  /** The largest latency, in milliseconds. */
  latency = 5
  readonly openedAt: number
  /** When the client last said something valid on its way to the server. */
  readonly validFramesAt: Array<number> = []
  /** Why the server closed it. */
  reason: CloseReason | undefined
  /** When this client has been too slow for the first time. */
  wasBackedUp = false

  constructor(world: World, process: Process, peer: SocketClient) {
    this.#world = world
    this.#process = process
    this.#peer = peer
    this.validFramesAt.push(world.now)
    this.openedAt = world.now
  }

  get isEnded(): boolean {
    return this.#ended
  }

  get isClosing(): boolean {
    return this.#closing
  }

  // ---- the server's end

  readonly #arrival: Effect.Effect<Frame, SocketClosed> = Effect.callback<Frame, SocketClosed>((resume) => {
    this.#reader = resume
  })

  readonly receive: Effect.Effect<Frame, SocketClosed> = Effect.suspend(() => {
    const frame = this.#inbox.shift()
    return frame !== undefined ? Effect.succeed(frame) : this.#ended ? closedEffect : this.#arrival
  })

  write(frames: ReadonlyArray<Buffer>): void {
    if (this.#closing || frames.length === 0) return
    if (this.hasBacklog()) {
      this.wasBackedUp = true
      // Both fibers of a connection may have found it fit just before the other wrote; and a server that stops says so.
      if ((this.#writesWhileBackedUp += 1) > 3) {
        this.#world.violate("I10 bounded", `${this.#waitingBytes} bytes wait for a client, and more is written`)
      }
    }
    this.#send({ frames, bytes: frames.reduce((sum, { length }) => sum + length, 0), code: undefined })
  }

  hasBacklog(): boolean {
    return this.#waitingBytes > backlogLimit
  }

  readonly drained: Effect.Effect<void, TooSlow | SocketClosed> = Effect.suspend(() => {
    if (this.#outgoing.length === 0) return Effect.void
    this.#world.count("slow client waited for")
    return Effect.callback<void, SocketClosed>((resume) => {
      if (this.#ended) return resume(closedEffect)
      this.#drainers.push(() => resume(this.#ended ? closedEffect : Effect.void))
    }).pipe(Effect.timeoutOrElse({
      duration: drainTimeout(this.#waitingBytes),
      orElse: () => Effect.fail(new TooSlow())
    }))
  })

  readonly ended: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.#ended) return resume(Effect.void)
    this.#enders.push(() => resume(Effect.void))
  })

  close(reason: CloseReason): void {
    if (this.#closing) return
    this.#closing = true
    this.reason = reason
    this.#inbox = []
    this.#send({ frames: [], bytes: 4, code: closeCodes[reason].code })
    this.#keepPatience = this.#process.startTimer(closeTimeout, () => this.#end())
  }

  ping(): void {
    if (!this.#closing) this.#send({ frames: [], bytes: 2, code: undefined })
  }

  // ---- the client's end

  send(frame: Frame, isValid: boolean): void {
    if (this.#left || this.isBlackhole) return
    if (isValid) this.validFramesAt.push(this.#world.now)
    this.#toServer(() => {
      if (this.#ended || this.#closing) return
      const resume = this.#reader
      if (resume === undefined) {
        this.#inbox.push(frame)
        return
      }
      this.#reader = undefined
      resume(Effect.succeed(frame))
    })
  }

  /** The client closes properly. */
  closeByClient(): void {
    if (this.#left) return
    this.#left = true
    if (!this.isBlackhole) this.#toServer(() => this.#end())
  }

  /** Both ends are told at once that the connection is gone. */
  breakBothEnds(): void {
    this.#process.deliver(1, () => this.#end())
    this.#lose(1)
  }

  /** The machine of the server is gone, or its process: the client's end is told by its system. */
  reset(): void {
    this.#ended = true
    this.#lose(this.#world.random.between(1, this.latency))
  }

  /** The client gives up: its end is over at once, the server hears of it if anything gets through. */
  abandon(): void {
    if (this.#left) return
    this.#left = true
    if (!this.isBlackhole) this.#process.deliver(this.latency, () => this.#end())
  }

  setRate(rate: number): void {
    this.rate = rate
    this.#draining = false
    this.#rates += 1
    this.#pump()
  }

  #lose(delay: number): void {
    this.#world.after(delay, () => {
      if (this.#left) return
      this.#left = true
      this.#peer.closed(1006)
    })
  }

  #toServer(run: () => void): void {
    const at = Math.max(this.#lastIn, this.#world.now + this.#world.random.between(1, this.latency))
    this.#lastIn = at
    this.#process.deliver(at - this.#world.now, run)
  }

  #send(item: Item): void {
    if (this.#ended) return
    this.#outgoing.push(item)
    this.#waitingBytes += item.bytes
    this.#pump()
  }

  /** Gives to the network what it takes now; the rest when the client has read. */
  #pump(): void {
    while (this.#outgoing[0] !== undefined && !this.#draining) {
      const item = this.#outgoing[0]
      if (this.isBlackhole) {
        if (item.bytes > kernelBytes) return
        this.#depart(item)
        continue
      }
      if (this.rate === Number.POSITIVE_INFINITY) {
        this.#depart(item)
        continue
      }
      if (this.rate === 0) return
      this.#draining = true
      const rates = this.#rates
      this.#world.after(Math.ceil(item.bytes / this.rate), () => {
        if (rates !== this.#rates) return
        this.#draining = false
        if (this.#outgoing[0] === item) this.#depart(item)
        this.#pump()
      })
    }
  }

  #depart(item: Item): void {
    this.#outgoing.shift()
    this.#waitingBytes -= item.bytes
    if (!this.hasBacklog()) this.#writesWhileBackedUp = 0
    if (this.#outgoing.length === 0) {
      // More may have been written by the time the process hears of it.
      this.#process.deliver(0, () => {
        if (this.#outgoing.length === 0) this.#settle(this.#drainers)
      })
    }
    if (this.isBlackhole) return
    const at = Math.max(this.#lastOut, this.#world.now + this.#world.random.between(1, this.latency))
    this.#lastOut = at
    this.#world.after(at - this.#world.now, () => this.#deliver(item))
  }

  #deliver({ code, frames }: Item): void {
    if (this.#left || this.isBlackhole || this.#isBroken) return
    if (code === undefined) {
      const texts = textsOf(frames)
      const breaks = texts.length > 1 && this.#world.random.chance(this.#world.breakProbability)
      this.#peer.received(breaks ? texts.slice(0, this.#world.random.int(texts.length)) : texts, !breaks)
      if (breaks) {
        this.#isBroken = true
        this.#world.count("connection broke between two frames")
        this.breakBothEnds()
      }
      return
    }
    this.#left = true
    this.#toServer(() => this.#end())
    this.#peer.closed(code)
  }

  #settle(waiting: Array<() => void>): void {
    for (const resume of waiting.splice(0)) resume()
  }

  #end(): void {
    if (this.#ended) return
    this.#closing = true
    this.#ended = true
    this.#outgoing = []
    this.#waitingBytes = 0
    this.#keepPatience?.()
    const resume = this.#reader
    this.#reader = undefined
    resume?.(closedEffect)
    this.#settle(this.#drainers)
    this.#settle(this.#enders)
    // A client that was cut off hears of it if it can.
    if (!this.isBlackhole) this.#lose(this.latency)
  }
}
