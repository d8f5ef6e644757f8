/** A program at one end of a connection: sends a known stream, checks what it receives, and reads at its own speed. */
import type { IncomingTcp, TcpConnection, TcpHandlers } from "#wireguard/ip/IpStack.ts"
import type { IpHost } from "./IpWorld.ts"

export interface EndPlan {
  /** Bytes to send before the end. */
  readonly bytes: number
  readonly chunkBytes: number
  /** Milliseconds from a chunk that arrives until it counts as read. */
  readonly readDelay: number
  /** Ends its direction only after the other has ended. */
  readonly endsLast: boolean
  /** Resets the connection after this many received bytes. */
  readonly resetsAt: number
  readonly keepAlive: number
}

const plainPlan: EndPlan = {
  bytes: 0,
  chunkBytes: 16_384,
  readDelay: 0,
  endsLast: false,
  resetsAt: Infinity,
  keepAlive: 0
}

const period = 65_521
const pattern = Buffer.alloc(period + 65_536)
for (let at = 0, state = 1; at < pattern.length; at += 1) {
  if (at >= period) pattern[at] = pattern[at - period]!
  else {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    pattern[at] = state >>> 24
  }
}

/** Up to 64 KiB of a stream from a position. Streams with different keys differ. */
const streamAt = (key: number, position: number, length: number): Buffer => {
  const start = (position + key * 977) % period
  return pattern.subarray(start, start + length)
}

export class TestEnd {
  readonly host: IpHost
  readonly plan: EndPlan
  connection: TcpConnection | undefined
  received = 0
  written = 0
  isConnected = false
  hasEnded = false
  hasReset = false
  /** "open" until the last callback; "done" after an orderly end; otherwise its code. */
  outcome = "open"
  violation: string | undefined
  closedAt = NaN
  readonly #life: number
  readonly #sendKey: number
  readonly #receiveKey: number
  #isFull = false

  constructor(host: IpHost, plan: EndPlan, sendKey: number, receiveKey: number) {
    this.host = host
    this.plan = plan
    this.#life = host.life
    this.#sendKey = sendKey
    this.#receiveKey = receiveKey
  }

  /** The machine was restarted: the program of this end is gone. */
  get isGone(): boolean {
    return this.#life !== this.host.life
  }

  connect(address: string, port: number): this {
    this.connection = this.host.stack.tcpConnect(
      this.host.now,
      { localAddress: this.host.address, address, port },
      this.#handlers()
    )
    this.#begin()
    return this
  }

  accept(incoming: IncomingTcp): this {
    this.connection = incoming.accept(this.host.now, this.#handlers())
    this.#begin()
    return this
  }

  reset(): void {
    if (this.outcome !== "open" || this.isGone) return
    this.hasReset = true
    this.connection?.reset()
    this.host.scheduleFlush()
  }

  #begin(): void {
    if (this.connection === undefined) {
      this.outcome = "EHOSTUNREACH"
      return
    }
    if (this.plan.keepAlive > 0) this.connection.setKeepAlive(this.plan.keepAlive)
    this.#send()
  }

  #send(): void {
    while (!this.#isFull && this.written < this.plan.bytes) {
      const length = Math.min(this.plan.chunkBytes, this.plan.bytes - this.written)
      const chunk = streamAt(this.#sendKey, this.written, length)
      this.written += length
      this.#isFull = !this.connection!.write(chunk)
    }
    if (this.written === this.plan.bytes && (!this.plan.endsLast || this.hasEnded)) this.connection!.end()
    this.host.scheduleFlush()
  }

  #fail(text: string): void {
    this.violation ??= text
  }

  #check(callback: string): void {
    if (this.outcome !== "open") this.#fail(`${callback} after onClose`)
    if (this.isGone) this.#fail(`${callback} after a restart`)
  }

  #handlers(): TcpHandlers {
    return {
      onConnect: () => {
        this.#check("onConnect")
        if (this.isConnected) this.#fail("onConnect twice")
        this.isConnected = true
      },
      onData: (chunk) => this.#onData(chunk),
      onEnd: () => {
        this.#check("onEnd")
        if (this.hasEnded) this.#fail("onEnd twice")
        this.hasEnded = true
        if (this.plan.endsLast) this.host.world.after(0, () => this.outcome === "open" && !this.isGone && this.#send())
      },
      onDrain: () => {
        this.#check("onDrain")
        if (!this.#isFull) this.#fail("onDrain without a full buffer")
        this.#isFull = false
        this.#send()
      },
      onClose: (code) => {
        this.#check("onClose")
        this.outcome = code ?? "done"
        this.closedAt = this.host.world.now
      }
    }
  }

  #onData(chunk: Buffer): void {
    this.#check("onData")
    if (!this.isConnected) this.#fail("onData before onConnect")
    if (this.hasEnded) this.#fail("onData after onEnd")
    if (chunk.length === 0) this.#fail("onData without data")
    if (!streamAt(this.#receiveKey, this.received, chunk.length).equals(chunk))
      this.#fail(`wrong bytes at ${this.received}`)
    this.received += chunk.length
    if (this.received >= this.plan.resetsAt) return this.reset()
    const { length } = chunk
    if (this.plan.readDelay === 0) this.#consume(length)
    else this.host.world.after(this.plan.readDelay, () => this.#consume(length))
  }

  #consume(length: number): void {
    if (this.outcome !== "open" || this.isGone) return
    this.connection?.consumed(length)
    this.host.scheduleFlush()
  }
}

/** The ends of one connection. The second one exists after the other host has accepted. */
export interface EndPair {
  readonly active: TestEnd
  passive: TestEnd | undefined
}

let nextKey = 1

/** Opens a connection to an unused port at the other host, which answers after `acceptDelay` ms. */
export const openPair = (
  from: IpHost,
  to: IpHost,
  plans: { readonly active?: Partial<EndPlan>; readonly passive?: Partial<EndPlan> },
  port: number,
  acceptDelay = 0
): EndPair => {
  const key = nextKey
  nextKey += 2
  const active = new TestEnd(from, { ...plainPlan, ...plans.active }, key, key + 1)
  const pair: EndPair = { active, passive: undefined }
  const { life } = to
  to.stack.tcpListen(port, (incoming) => {
    to.world.after(acceptDelay, () => {
      if (to.life !== life) return
      if (pair.passive !== undefined) return incoming.reject(to.now)
      pair.passive = new TestEnd(to, { ...plainPlan, ...plans.passive }, key + 1, key).accept(incoming)
    })
  })
  active.connect(to.address, port)
  return pair
}
