/** One request of a visitor and its response, over HTTP/1 or HTTP/2. */
import type { Duplex, Readable } from "node:stream"

export interface VisitHandlers {
  /** The visitor can take more of the response. */
  readonly onDrain: () => void
  /** Called once. `isComplete` is false if the visitor aborted or the response was cut. */
  readonly onClose: (isComplete: boolean) => void
}

export interface Visit {
  readonly version: "HTTP/1.0" | "HTTP/1.1" | "HTTP/2.0"
  readonly method: string
  /** Undefined if the request has no body. */
  readonly body: Readable | undefined
  /** Trailer fields after the end of the body, names and values in turn. */
  readonly trailers: () => ReadonlyArray<string>
  /** Whether the header section of the response has been sent. */
  readonly isHeadSent: boolean
  handle(handlers: VisitHandlers): void
  sendContinue(): void
  /** Status 103. Fields that are not valid are dropped. */
  sendEarlyHints(fields: ReadonlyArray<string>): void
  /** Throws if a field is not valid. `close` ends the connection after the response, where that is possible. */
  sendHead(status: number, reason: string, fields: Array<string>, options: HeadOptions): void
  /** Returns false if the visitor is slower than the service; `onDrain` follows. */
  write(chunk: Buffer): boolean
  end(trailers: Array<[string, string]>): void
  /** Ends the response so that the visitor sees that it is incomplete. */
  abort(): void
  /** Accepts the upgrade and returns the visitor's side of the new connection. */
  accept(fields: Array<string>): Duplex
}

export interface HeadOptions {
  readonly close: boolean
  readonly mayHaveTrailers: boolean
}

/** Facts for the access log. */
export interface VisitCounts {
  /** Status of the response whose head was sent. */
  status: number
  receivedBytes: number
  sentBytes: number
}
