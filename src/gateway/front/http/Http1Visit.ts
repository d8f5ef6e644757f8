/** A visitor's request over HTTP/1.0 or HTTP/1.1. */
import type { Clock } from "#processes/clock.ts"
import { type IncomingMessage, ServerResponse } from "node:http"
import type { Socket } from "node:net"
import type { Duplex, Readable } from "node:stream"
import type { HeadOptions, Visit, VisitHandlers } from "./Visit.ts"

/** Time for a visitor to finish its request after the complete response. */
const lingerMillis = 2_000

export class Http1Visit implements Visit {
  readonly version: "HTTP/1.0" | "HTTP/1.1"
  readonly method: string
  readonly body: Readable | undefined
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #clock: Clock
  /** The connection of an upgrade request, which is no longer the server's, and its first bytes. */
  readonly #upgrade: { readonly socket: Duplex; readonly head: Buffer } | undefined

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    clock: Clock,
    upgrade?: { readonly socket: Duplex; readonly head: Buffer }
  ) {
    this.version = request.httpVersionMinor === 0 ? "HTTP/1.0" : "HTTP/1.1"
    this.method = request.method ?? "GET"
    this.#request = request
    this.#response = response
    this.#clock = clock
    this.#upgrade = upgrade
    this.body = upgrade === undefined && hasBody(request) ? request : undefined
  }

  /** A visit for a request that asks for another protocol. The gateway writes a response to the socket only if it fails. */
  static upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, clock: Clock): Http1Visit {
    const response = new ServerResponse(request)
    response.shouldKeepAlive = false
    response.assignSocket(socket as Socket)
    // The server no longer watches this socket.
    socket.on("error", ignore).on("drain", () => response.emit("drain"))
    response.once("finish", () => {
      response.detachSocket(socket as Socket)
      response.emit("close")
      socket.end()
      const timer = clock.after(lingerMillis, () => socket.destroy())
      socket.once("close", timer.cancel).resume()
    })
    return new Http1Visit(request, response, clock, { socket, head })
  }

  get isHeadSent(): boolean {
    return this.#response.headersSent
  }

  readonly trailers = (): ReadonlyArray<string> => this.#request.rawTrailers

  handle({ onClose, onDrain }: VisitHandlers): void {
    const response = this.#response
    response.on("drain", onDrain).on("error", ignore)
    this.#request.on("error", ignore)
    response.once("close", () => {
      const isComplete = response.writableFinished
      if (isComplete && !this.#request.complete && this.#upgrade === undefined) this.#linger()
      onClose(isComplete)
    })
    if (response.destroyed || response.socket?.destroyed === true) onClose(false)
  }

  sendContinue(): void {
    if (!this.isHeadSent && this.version !== "HTTP/1.0") this.#response.writeContinue()
  }

  sendEarlyHints(fields: ReadonlyArray<string>): void {
    if (this.isHeadSent || this.version === "HTTP/1.0") return
    try {
      const hints: Record<string, string | Array<string>> = {}
      for (let at = 0; at < fields.length; at += 2) {
        const name = (fields[at] as string).toLowerCase()
        const value = fields[at + 1] as string
        const known = hints[name]
        hints[name] = known === undefined ? value : [...(Array.isArray(known) ? known : [known]), value]
      }
      this.#response.writeInformation(103, hints)
    } catch {
      // The hints are optional, and these are not valid.
    }
  }

  sendHead(status: number, reason: string, fields: Array<string>, { close }: HeadOptions): void {
    const response = this.#response
    if (close) response.shouldKeepAlive = false
    response.writeHead(status, reason, fields)
    // The head leaves together with the part of the body that has arrived with it.
    // A corked response, other than a corked socket, would send its last chunk before the others.
    const { socket } = response
    socket?.cork()
    // `flushHeaders` would encode the head as UTF-8.
    response.write(nothing)
    this.#clock.soon(() => socket?.uncork())
  }

  write(chunk: Buffer): boolean {
    return this.#response.write(chunk)
  }

  end(trailers: Array<[string, string]>): void {
    if (trailers.length > 0) this.#response.addTrailers(trailers)
    this.#response.end()
  }

  abort(): void {
    this.#request.socket.destroy()
  }

  accept(fields: Array<string>): Duplex {
    const { head, socket } = this.#upgrade ?? { socket: this.#request.socket, head: Buffer.alloc(0) }
    this.#response.detachSocket(socket as Socket)
    let text = "HTTP/1.1 101 Switching Protocols\r\n"
    for (let at = 0; at < fields.length; at += 2) text += `${fields[at]}: ${fields[at + 1]}\r\n`
    socket.write(Buffer.from(`${text}\r\n`, "latin1"))
    if (head.length > 0) socket.unshift(head)
    return socket
  }

  /** Node discards the rest of the request. The bound is on the time of it. */
  #linger(): void {
    const request = this.#request
    request.resume()
    const timer = this.#clock.after(lingerMillis, () => request.socket.destroy())
    request.once("end", timer.cancel).once("close", timer.cancel)
  }
}

/** RFC 9112, 6. */
export function hasBody({ headers }: IncomingMessage): boolean {
  const length = headers["content-length"]
  return (length !== undefined && length !== "0") || headers["transfer-encoding"] !== undefined
}

const nothing = Buffer.alloc(0)

/** The `close` event that follows has the consequence. */
const ignore = () => {}
