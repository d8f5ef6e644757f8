/** A visitor's request over HTTP/2: one stream of a session. */
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2"
import type { Duplex, Readable } from "node:stream"
import { http2Fields } from "./fields.ts"
import type { HeadOptions, Visit, VisitHandlers } from "./Visit.ts"

export class Http2Visit implements Visit {
  readonly version = "HTTP/2.0"
  readonly method: string
  readonly body: Readable | undefined
  readonly #stream: ServerHttp2Stream
  #trailers: ReadonlyArray<string> = []
  #responseTrailers: Record<string, string | Array<string>> = {}
  #isEnded = false
  /** Whether the response has no body, so that its head has ended the stream. */
  #isBodiless = false

  constructor(stream: ServerHttp2Stream, method: string) {
    this.#stream = stream
    this.method = method
    this.body = stream.endAfterHeaders || method === "CONNECT" ? undefined : stream
    if (this.body !== undefined) {
      stream.on("trailers", (_headers: IncomingHttpHeaders, _flags: number, raw?: ReadonlyArray<string>) => {
        this.#trailers = raw ?? []
      })
    }
  }

  get isHeadSent(): boolean {
    return this.#stream.headersSent
  }

  readonly trailers = (): ReadonlyArray<string> => this.#trailers

  handle({ onClose, onDrain }: VisitHandlers): void {
    const stream = this.#stream
    stream.on("drain", onDrain).on("error", ignore)
    if (this.body !== undefined) stream.once("aborted", () => stream.destroy())
    // A response that is complete before the request (RFC 9113, 8.1).
    stream.once("finish", () => {
      if (this.#isEnded && !stream.readableEnded && !stream.endAfterHeaders) stream.close(constants.NGHTTP2_NO_ERROR)
    })
    if (this.body === undefined && this.method !== "CONNECT") stream.resume()
    stream.once("close", () => onClose(this.#isEnded && stream.rstCode === constants.NGHTTP2_NO_ERROR))
    if (stream.destroyed) onClose(false)
  }

  sendContinue(): void {
    this.#inform({ ":status": 100 })
  }

  sendEarlyHints(fields: ReadonlyArray<string>): void {
    this.#inform({ ":status": 103, ...http2Fields(fields) })
  }

  sendHead(status: number, _reason: string, fields: Array<string>, { mayHaveTrailers }: HeadOptions): void {
    const stream = this.#stream
    if (stream.destroyed || stream.closed) return
    this.#isBodiless = status === 204 || status === 205 || status === 304 || this.method === "HEAD"
    const waitForTrailers = mayHaveTrailers && !this.#isBodiless
    if (waitForTrailers) stream.once("wantTrailers", () => stream.sendTrailers(this.#responseTrailers))
    stream.respond({ ":status": status, ...http2Fields(fields) }, { waitForTrailers })
  }

  write(chunk: Buffer): boolean {
    return this.#isBodiless || this.#stream.writableEnded || this.#stream.write(chunk)
  }

  end(trailers: Array<[string, string]>): void {
    this.#isEnded = true
    if (trailers.length > 0) this.#responseTrailers = http2Fields(trailers.flat())
    if (!this.#stream.writableEnded) this.#stream.end()
  }

  abort(): void {
    if (this.#isEnded) this.#isEnded = false
    this.#stream.destroy(new Error("the response is incomplete"))
  }

  accept(fields: Array<string>): Duplex {
    this.#stream.respond({ ":status": 200, ...http2Fields(fields) })
    return this.#stream
  }

  #inform(headers: Record<string, string | number | Array<string>>): void {
    const stream = this.#stream
    if (stream.headersSent || stream.destroyed || stream.closed) return
    try {
      stream.additionalHeaders(headers)
    } catch {
      // Informational responses are optional, and this one is not valid.
    }
  }
}

/** The `close` event that follows has the consequence. */
const ignore = () => {}
