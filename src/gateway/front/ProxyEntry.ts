/** Connections from trusted proxies until their PROXY header has named the visitor. */
import type { Clock } from "#processes/clock.ts"
import { parseHeader } from "#proxyProtocol/parseHeader.ts"
import type { TcpEnds } from "#proxyProtocol/TcpEnds.ts"
import type { Socket } from "node:net"
import { peek } from "./peek.ts"
import type { LogProblem } from "./problemLog.ts"
import { rememberVisitor } from "./visitors.ts"

export interface ProxyEntryOptions {
  readonly clock: Clock
  readonly headerMillis: number
  readonly logProblem: LogProblem
}

export class ProxyEntry {
  /** Connections of trusted proxies without a valid header, since the start. */
  rejected = 0
  readonly #options: ProxyEntryOptions
  readonly #pending = new Set<Socket>()

  constructor(options: ProxyEntryOptions) {
    this.#options = options
  }

  /** `onVisitor` receives the visitor; the bytes after the header wait in the paused socket. */
  accept(socket: Socket, proxy: TcpEnds, onVisitor: (ends: TcpEnds) => void): void {
    this.#pending.add(socket)
    peek(socket, {
      clock: this.#options.clock,
      timeoutMillis: this.#options.headerMillis,
      judge: (bytes) => {
        const header = parseHeader(bytes)
        return header._tag === "Incomplete" ? undefined : header
      },
      onResult: (result, bytes) => {
        this.#pending.delete(socket)
        if (result === "Ended") return void socket.destroy()
        if (result === "TimedOut") return this.#reject(socket, proxy, "no PROXY header arrived in time")
        if (result._tag === "Absent") return this.#reject(socket, proxy, "its first bytes are no PROXY header")
        if (result._tag === "Malformed") return this.#reject(socket, proxy, result.reason)
        if (bytes.length > result.length) socket.unshift(bytes.subarray(result.length))
        if (result.ends !== undefined) rememberVisitor(socket, result.ends)
        onVisitor(result.ends ?? proxy)
      }
    })
  }

  /** Closes the connections whose header is incomplete. */
  close(): void {
    for (const socket of this.#pending) socket.destroy()
  }

  #reject(socket: Socket, { source }: TcpEnds, reason: string): void {
    this.rejected += 1
    this.#options.logProblem("PROXY header", `closed a connection of the trusted proxy ${source.address}: ${reason}`)
    socket.resetAndDestroy()
  }
}
