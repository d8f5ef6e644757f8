/** Joins two connections into one: both directions, half-close, backpressure, and aborts. */
import type { Duplex } from "node:stream"

/** A TCP socket of the system or of a tunnel. */
export interface JoinableSocket extends Duplex {
  resetAndDestroy(): unknown
}

/** Bytes that have passed, from the first socket to the second and back. */
export interface JoinedBytes {
  readonly forth: number
  readonly back: number
}

/**
 * Pipes each socket into the other. The end of one direction ends that direction only. If one side aborts, the other side is
 * reset. `onClosed` is called once, when both are closed. Both sockets must have been opened with, or allow, `allowHalfOpen`.
 */
export const joinSockets = (
  first: JoinableSocket,
  second: JoinableSocket,
  onClosed: (bytes: JoinedBytes) => void
): void => {
  let open = 2
  let forth = 0
  let back = 0
  first.allowHalfOpen = true
  second.allowHalfOpen = true
  const attach = (from: JoinableSocket, to: JoinableSocket) => {
    from.on("error", ignoreError)
    from.once("close", () => {
      // A side that closes before both ends were seen has aborted.
      if (!from.readableEnded || !from.writableFinished) to.resetAndDestroy()
      open -= 1
      if (open === 0) onClosed({ forth, back })
    })
    if (from.destroyed) to.resetAndDestroy()
  }
  first.on("data", (chunk: Buffer) => void (forth += chunk.length))
  second.on("data", (chunk: Buffer) => void (back += chunk.length))
  first.pipe(second)
  second.pipe(first)
  attach(first, second)
  attach(second, first)
}

/** The `close` event that follows has the consequence. */
const ignoreError = () => {}
