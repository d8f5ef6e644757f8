/**
 * TCP proxy that injects network faults in user space, so that they are the same on every machine. Faults can affect single
 * connections and single directions.
 */
import { connect, createServer, type Server, type Socket } from "node:net"
import { sleep } from "#bench/support/timing.ts"

/** `up` is the direction from the client to the server behind the proxy. */
export type Direction = "up" | "down"

export type ProxyMode =
  | { readonly kind: "pass" }
  /** Reads and drops data. The sender believes that everything arrives. */
  | { readonly kind: "blackhole" }
  /** Stops reading, so that the sender's buffers fill up. */
  | { readonly kind: "stall" }
  | { readonly kind: "delay"; readonly millis: () => number }
  | { readonly kind: "throttle"; readonly bytesPerSecond: number }
  /** Ends this direction only. */
  | { readonly kind: "half-close" }
  /** Forwards `after` more bytes, then resets the connection. */
  | { readonly kind: "truncate"; readonly after: number }
  /** Forwards what `rewrite` returns for each chunk. */
  | { readonly kind: "rewrite"; readonly rewrite: (chunk: Buffer, link: ProxyConnection) => Buffer }

const pass: ProxyMode = { kind: "pass" }

/** One connection through the proxy. */
export class ProxyConnection {
  readonly id: number
  /** Whether the connection has sent LISTEN to PostgreSQL. */
  isListen = false
  /** Whether the proxy has dropped bytes. Such a stream can only be reset, not healed. */
  hasLostBytes = false
  readonly #near: Socket
  readonly #far: Socket
  readonly #modes: Record<Direction, ProxyMode>
  readonly #idleMillis: number
  #wake: Record<Direction, () => void> = { up: () => {}, down: () => {} }

  constructor(
    id: number,
    near: Socket,
    far: Socket,
    options: {
      readonly modes: Record<Direction, ProxyMode>
      readonly idleMillis: number
      readonly onClosed: () => void
      readonly onChunk: (link: ProxyConnection, direction: Direction, chunk: Buffer) => void
    }
  ) {
    this.id = id
    this.#near = near
    this.#far = far
    this.#modes = { ...options.modes }
    this.#idleMillis = options.idleMillis
    for (const [socket, direction] of [[near, "up"], [far, "down"]] as const) {
      socket.setNoDelay(true)
      socket.on("error", () => this.#ended(direction))
      if (this.#idleMillis > 0) socket.setTimeout(this.#idleMillis, () => this.cut())
    }
    let open = 2
    for (const socket of [near, far]) socket.once("close", () => (open -= 1) === 0 && options.onClosed())
    void this.#pump(near, far, "up", options.onChunk)
    void this.#pump(far, near, "down", options.onChunk)
  }

  set(mode: ProxyMode, direction?: Direction): void {
    for (const which of direction === undefined ? ["up", "down"] as const : [direction]) {
      this.#modes[which] = mode
      this.#wake[which]()
    }
  }

  /** Resets both sides. */
  cut(): void {
    for (const socket of [this.#near, this.#far]) if (!socket.destroyed) socket.resetAndDestroy()
    this.#wake.up()
    this.#wake.down()
  }

  get isOpen(): boolean {
    return !this.#near.destroyed && !this.#far.destroyed
  }

  async #pump(
    from: Socket,
    to: Socket,
    direction: Direction,
    onChunk: (link: ProxyConnection, direction: Direction, chunk: Buffer) => void
  ): Promise<void> {
    try {
      for await (const read of from) {
        const chunk: Buffer = read
        if (direction === "up" && chunk.includes("LISTEN ")) this.isListen = !chunk.includes("UNLISTEN ")
        onChunk(this, direction, chunk)
        await this.#give(chunk, to, direction)
      }
      if (this.#modes[direction].kind !== "blackhole") to.end()
    } catch {
      this.#ended(direction)
    }
  }

  /** In a blackhole the end of one side is not forwarded either. The other side learns of it when the fault is healed. */
  #ended(direction: Direction): void {
    if (this.#modes[direction].kind === "blackhole") this.hasLostBytes = true
    else this.cut()
  }

  async #give(chunk: Buffer, to: Socket, direction: Direction): Promise<void> {
    while (this.#modes[direction].kind === "stall" && this.isOpen) {
      await new Promise<void>((resolve) => this.#wake[direction] = resolve)
    }
    const mode = this.#modes[direction]
    switch (mode.kind) {
      case "pass":
      case "stall":
        return await write(to, chunk)
      case "blackhole":
        this.hasLostBytes = true
        return
      case "delay":
        await sleep(mode.millis())
        return await write(to, chunk)
      case "throttle":
        await sleep(chunk.length / mode.bytesPerSecond * 1_000)
        return await write(to, chunk)
      case "half-close":
        this.hasLostBytes = true
        return void to.end()
      case "truncate":
        await write(to, chunk.subarray(0, mode.after))
        if (chunk.length >= mode.after) return this.cut()
        this.#modes[direction] = { kind: "truncate", after: mode.after - chunk.length }
        return
      case "rewrite":
        return await write(to, mode.rewrite(chunk, this))
    }
  }
}

export class Proxy {
  readonly connections = new Set<ProxyConnection>()
  /** Modes of new connections. */
  readonly modes: Record<Direction, ProxyMode> = { up: pass, down: pass }
  /** Server behind the proxy. A change applies to new connections. */
  target: { host: string; port: number }
  /** Resets new connections at once. */
  isRefusing = false
  /** Milliseconds without data in either direction after which a connection is reset, as in reverse proxies; 0 for never. */
  idleMillis = 0
  /** Receives every chunk before it is forwarded. */
  onChunk: (link: ProxyConnection, direction: Direction, chunk: Buffer) => void = () => {}
  opened = 0
  readonly #server: Server

  private constructor(server: Server, target: { host: string; port: number }) {
    this.#server = server
    this.target = target
    server.on("connection", (near) => this.#accept(near))
  }

  static async to(port: number, host = "127.0.0.1"): Promise<Proxy> {
    const server = createServer({ allowHalfOpen: true })
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject)
      server.listen(0, "127.0.0.1", resolve)
    })
    return new Proxy(server, { host, port })
  }

  get port(): number {
    const address = this.#server.address()
    return typeof address === "object" && address !== null ? address.port : 0
  }

  /** Sets the mode of all connections, including future ones. */
  set(mode: ProxyMode, direction?: Direction): void {
    if (direction !== "down") this.modes.up = mode
    if (direction !== "up") this.modes.down = mode
    for (const link of this.connections) link.set(mode, direction)
  }

  cut(which: (link: ProxyConnection) => boolean = () => true): number {
    const found = [...this.connections].filter(which)
    for (const link of found) link.cut()
    return found.length
  }

  /** Forwards everything from now on. Resets connections that have lost bytes, because neither end could continue. */
  heal(): void {
    this.isRefusing = false
    this.idleMillis = 0
    this.onChunk = () => {}
    this.set(pass)
    this.cut((link) => link.hasLostBytes)
  }

  async close(): Promise<void> {
    this.isRefusing = true
    this.cut()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  #accept(near: Socket): void {
    near.on("error", () => near.destroy())
    if (this.isRefusing) return void near.resetAndDestroy()
    const far = connect({ ...this.target, allowHalfOpen: true })
    const link = new ProxyConnection(this.opened += 1, near, far, {
      modes: this.modes,
      idleMillis: this.idleMillis,
      onClosed: () => this.connections.delete(link),
      onChunk: (from, direction, chunk) => this.onChunk(from, direction, chunk)
    })
    this.connections.add(link)
  }
}

async function write(to: Socket, chunk: Buffer): Promise<void> {
  if (to.destroyed || to.writableEnded) return
  if (to.write(chunk)) return
  await new Promise<void>((resolve) => {
    const done = () => {
      to.off("drain", done)
      to.off("close", done)
      resolve()
    }
    to.on("drain", done)
    to.on("close", done)
  })
}
