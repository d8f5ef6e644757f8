/** Connections to the HTTPS port until their ClientHello has decided who serves them. */
import type { Routes } from "#gateway/Route.ts"
import type { Clock } from "#processes/clock.ts"
import type { TcpEnds } from "#proxyProtocol/TcpEnds.ts"
import type { Socket } from "node:net"
import { type ClientHello, readClientHello } from "./clientHello.ts"
import { endWith } from "./endSocket.ts"
import { peek } from "./peek.ts"
import type { Pipes } from "./Pipes.ts"
import { type AlertName, fatalAlert } from "./tlsAlert.ts"

/** Connections that ended before they had a route, since the start. */
export interface TlsRejections {
  /** No ClientHello, and no HTTP. */
  invalid: number
  /** HTTP without TLS. */
  plainHttp: number
  timedOut: number
  missingName: number
  unknownName: number
}

export interface TlsEntryOptions {
  readonly clock: Clock
  readonly helloMillis: number
  readonly routes: Routes
  readonly pipes: Pipes
  /** Serves a connection whose first bytes, from the ClientHello on, are waiting in the paused socket. */
  readonly serveTls: (socket: Socket) => void
}

/** Connections that end by themselves while their ClientHello is incomplete cost nothing and are not counted. */
type Result = Exclude<ClientHello, { readonly _tag: "Incomplete" }> | "TimedOut" | "Ended"

export class TlsEntry {
  readonly rejections: TlsRejections = { invalid: 0, plainHttp: 0, timedOut: 0, missingName: 0, unknownName: 0 }
  readonly #options: TlsEntryOptions
  /** Connections whose ClientHello is incomplete. */
  readonly #pending = new Set<Socket>()

  constructor(options: TlsEntryOptions) {
    this.#options = options
  }

  accept(socket: Socket, ends: TcpEnds): void {
    const { clock, helloMillis } = this.#options
    this.#pending.add(socket)
    peek(socket, {
      clock,
      timeoutMillis: helloMillis,
      judge: (bytes) => {
        const hello = readClientHello(bytes)
        return hello._tag === "Incomplete" ? undefined : hello
      },
      onResult: (result, bytes) => this.#serve(socket, ends, result, bytes)
    })
  }

  /** Closes the connections whose ClientHello is incomplete. */
  close(): void {
    for (const socket of this.#pending) socket.destroy()
  }

  #serve(socket: Socket, ends: TcpEnds, result: Result, bytes: Buffer): void {
    this.#pending.delete(socket)
    if (result === "Ended") return void socket.destroy()
    if (result === "TimedOut") {
      this.rejections.timedOut += 1
      return void socket.resetAndDestroy()
    }
    if (result._tag === "Invalid") return this.#rejectInvalid(socket, bytes)
    const { pipes, routes, serveTls } = this.#options
    const { serverName } = result
    if (serverName === undefined) return this.#alert(socket, "missingName", "missing_extension")
    const route = routes.find(serverName)
    if (route === undefined) return this.#alert(socket, "unknownName", "unrecognized_name")
    socket.unshift(bytes)
    if (route.protocol === "tls") return pipes.connect(socket, route, ends)
    // As for sockets that a TLS server of Node accepts itself.
    socket.allowHalfOpen = false
    serveTls(socket)
  }

  #rejectInvalid(socket: Socket, bytes: Buffer): void {
    if (bytes[0] === tlsHandshake) return this.#alert(socket, "invalid", "decode_error")
    if (!isLetter(bytes[0])) {
      this.rejections.invalid += 1
      return void socket.resetAndDestroy()
    }
    this.rejections.plainHttp += 1
    endWith(socket, plainHttpAnswer, this.#options.clock)
  }

  #alert(socket: Socket, rejection: keyof TlsRejections, alert: AlertName): void {
    this.rejections[rejection] += 1
    endWith(socket, fatalAlert(alert), this.#options.clock)
  }
}

/** Content type of the first record of a TLS client. */
const tlsHandshake = 22

/** Methods of HTTP begin with a letter. */
function isLetter(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x41 && byte <= 0x5a
}

const plainHttpText = "This port serves HTTPS only. Use an address that begins with https://.\n"
const plainHttpAnswer = Buffer.from(
  "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n" +
    `Content-Length: ${plainHttpText.length}\r\n\r\n${plainHttpText}`,
  "latin1"
)
