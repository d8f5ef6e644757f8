/** A TCP connection of the userspace stack as a stream, with the methods of `net.Socket` that node:http uses. */
import type { Clock, Timer } from "#processes/clock.ts"
import { Duplex } from "node:stream"
import type { TunnelSocket } from "#wireguard/Device.ts"
import { addressText } from "#wireguard/ip/ipv4.ts"
import type { TcpConnection, TcpHandlers } from "#wireguard/ip/IpStack.ts"

/** Bytes that a stream buffers in each direction in addition to the connection's own buffers. */
const highWaterMark = 256 * 1024

/** A destroyed socket whose peer does not end the connection is reset after this time (as Linux's `tcp_fin_timeout`). */
const orphanTimeoutMillis = 60_000

const defaultKeepAliveMillis = 60_000

/** Continues a write or an end, or fails it. */
type Waiter = (error?: Error | null) => void

/** What a socket needs of its device. */
export interface SocketOwner {
  readonly clock: Clock
  /** Sends what the stack has gathered, once in this turn of the event loop. */
  readonly scheduleFlush: () => void
}

export class UserspaceSocket extends Duplex implements TunnelSocket {
  connecting = true
  remoteAddress: string | undefined
  remotePort: number | undefined
  localAddress: string | undefined
  readonly #owner: SocketOwner
  #connection: TcpConnection | undefined
  #connectTimer: Timer | undefined
  /** Bytes handed to the reader that the receive window has not been given back for. */
  #unconsumed = 0
  #isConnectionClosed = false
  #waitsForConnect: Waiter | undefined
  #waitsForDrain: Waiter | undefined
  #orphanTimer: Timer | undefined
  /** Without a timer after it has fired, until the next activity. */
  #idle: { readonly millis: number; timer: Timer | undefined; lastActivity: number } | undefined

  /** `begin` opens or accepts the connection; undefined if there is no way to the address. */
  constructor(
    owner: SocketOwner,
    begin: (now: number, handlers: TcpHandlers) => TcpConnection | undefined,
    connectTimeoutMillis: number | undefined
  ) {
    super({ allowHalfOpen: false, readableHighWaterMark: highWaterMark, writableHighWaterMark: highWaterMark })
    this.#owner = owner
    if (connectTimeoutMillis !== undefined) {
      this.#connectTimer = owner.clock.after(connectTimeoutMillis, () => this.destroy(connectionError("ETIMEDOUT")))
    }
    const connection = begin(owner.clock.monotonic(), this.#handlers())
    this.#connection = connection
    if (connection === undefined) {
      // The stream destroys itself after the caller had time to add its listeners.
      this.#isConnectionClosed = true
      this.destroy(connectionError("EHOSTUNREACH"))
      return
    }
    this.remoteAddress = addressText(connection.ends.remoteAddress)
    this.remotePort = connection.ends.remotePort
    this.localAddress = addressText(connection.ends.localAddress)
    owner.scheduleFlush()
  }

  /** Milliseconds of `setTimeout`, as of net.Socket. */
  get timeout(): number | undefined {
    return this.#idle?.millis
  }

  setTimeout(millis: number, listener?: () => void): this {
    // As net.Socket does; an http.Agent adds and removes its listener for each request.
    if (listener !== undefined && millis > 0) this.once("timeout", listener)
    if (listener !== undefined && millis === 0) this.off("timeout", listener)
    this.#idle?.timer?.cancel()
    this.#idle = millis > 0
      ? { millis, timer: undefined, lastActivity: this.#owner.clock.monotonic() }
      : undefined
    this.#startIdleTimer()
    return this
  }

  /** Without effect, because the stack never delays small segments. */
  setNoDelay(): this {
    return this
  }

  setKeepAlive(enabled = false, initialDelayMillis = 0): this {
    this.#connection?.setKeepAlive(enabled ? initialDelayMillis || defaultKeepAliveMillis : 0)
    return this
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  resetAndDestroy(): this {
    this.#reset()
    return this.destroy()
  }

  override _read(): void {
    if (this.#unconsumed === 0) return
    const bytes = this.#unconsumed
    this.#unconsumed = 0
    this.#connection?.consumed(bytes)
    this.#owner.scheduleFlush()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#send([chunk], done)
  }

  override _writev(
    chunks: Array<{ chunk: Buffer; encoding: BufferEncoding }>,
    done: (error?: Error | null) => void
  ): void {
    this.#send(chunks.map(({ chunk }) => chunk), done)
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.connecting) {
      this.#waitsForConnect = (error) => error ? done(error) : this._final(done)
      return
    }
    this.#connection?.end()
    this.#owner.scheduleFlush()
    done()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#connectTimer?.cancel()
    this.#idle?.timer?.cancel()
    this.#idle = undefined
    if (!this.#isConnectionClosed) {
      // The kernel resets a connection that is closed with unread data, so that the peer learns of the loss.
      if (error !== null || this.connecting || this.readableLength > 0) this.#reset()
      else this.#endInBackground()
    }
    const write = this.#waitsForDrain ?? this.#waitsForConnect
    this.#waitsForConnect = undefined
    this.#waitsForDrain = undefined
    done(error)
    write?.(error ?? connectionError("ECANCELED"))
  }

  #handlers(): TcpHandlers {
    return {
      onConnect: () => {
        this.connecting = false
        this.#connectTimer?.cancel()
        this.#active()
        this.emit("connect")
        this.emit("ready")
        const wake = this.#waitsForConnect
        this.#waitsForConnect = undefined
        wake?.()
      },
      onData: (chunk) => {
        if (this.destroyed) return this.#reset()
        this.#active()
        this.#unconsumed += chunk.length
        this.push(chunk)
      },
      onEnd: () => {
        if (!this.destroyed) this.push(null)
      },
      onDrain: () => {
        this.#active()
        const wake = this.#waitsForDrain
        this.#waitsForDrain = undefined
        wake?.()
      },
      onClose: (code) => {
        this.#isConnectionClosed = true
        this.#orphanTimer?.cancel()
        if (this.destroyed) return
        if (code !== undefined) this.destroy(connectionError(code))
      }
    }
  }

  #send(chunks: ReadonlyArray<Buffer>, done: (error?: Error | null) => void): void {
    if (this.connecting) {
      this.#waitsForConnect = (error) => error ? done(error) : this.#send(chunks, done)
      return
    }
    if (this.#connection === undefined || this.#isConnectionClosed) return done(connectionError("EPIPE"))
    this.#active()
    let hasRoom = true
    for (const chunk of chunks) hasRoom = this.#connection.write(chunk)
    this.#owner.scheduleFlush()
    if (hasRoom) done()
    else this.#waitsForDrain = done
  }

  #reset(): void {
    if (this.#isConnectionClosed) return
    this.#connection?.reset()
    this.#owner.scheduleFlush()
  }

  /** What was written is still delivered, as by a kernel. */
  #endInBackground(): void {
    this.#connection?.end()
    this.#owner.scheduleFlush()
    this.#orphanTimer = this.#owner.clock.after(orphanTimeoutMillis, () => this.#reset())
  }

  #active(): void {
    if (this.#idle === undefined) return
    this.#idle.lastActivity = this.#owner.clock.monotonic()
    this.#startIdleTimer()
  }

  /** Arms one timer for the whole idle time, because arming one for each packet would cost more than the packet. */
  #startIdleTimer(): void {
    const idle = this.#idle
    if (idle === undefined || idle.timer !== undefined) return
    const { clock } = this.#owner
    const check = () => {
      const left = idle.lastActivity + idle.millis - clock.monotonic()
      idle.timer = left > 0 ? clock.after(left, check) : undefined
      if (left <= 0) this.emit("timeout")
    }
    idle.timer = clock.after(idle.millis, check)
  }
}

/** A socket that fails with `EHOSTUNREACH`, for a caller that has no device at the moment. */
export const unreachableSocket = (clock: Clock): TunnelSocket =>
  new UserspaceSocket({ clock, scheduleFlush: () => {} }, () => undefined, undefined)

/** An error in the form of `net.connect`, with a `code`. */
export const connectionError = (code: string): NodeJS.ErrnoException =>
  Object.assign(new Error(`${code}: ${errorTexts[code] ?? "the connection failed"}`), { code })

const errorTexts: Readonly<Record<string, string>> = {
  ECONNREFUSED: "the peer rejected the connection",
  ECANCELED: "the socket was destroyed",
  ECONNRESET: "the peer reset the connection",
  ETIMEDOUT: "the peer does not answer",
  EHOSTUNREACH: "no peer has the address",
  EPIPE: "the connection is closed"
}
