/** Reads the first bytes of a connection until they decide what it is. */
import type { Clock } from "#processes/clock.ts"
import type { Socket } from "node:net"

export interface PeekOptions<A> {
  readonly clock: Clock
  readonly timeoutMillis: number
  /** Returns undefined if more bytes are necessary, and decides after a bounded number of bytes. */
  readonly judge: (bytes: Buffer) => A | undefined
  /** Called once. The socket is paused and has no listener of this function. `bytes` are all that it has delivered. */
  readonly onResult: (result: A | "TimedOut" | "Ended", bytes: Buffer) => void
}

/** The socket must have an `error` listener. */
export const peek = <A>(socket: Socket, { clock, judge, onResult, timeoutMillis }: PeekOptions<A>): void => {
  let bytes: Buffer = Buffer.alloc(0)
  const finish = (result: A | "TimedOut" | "Ended") => {
    timer.cancel()
    // A socket without a `data` listener loses what arrives, unless it is paused first.
    socket.pause().off("data", onData).off("end", onEnd).off("close", onEnd)
    onResult(result, bytes)
  }
  const timer = clock.after(timeoutMillis, () => finish("TimedOut"))
  const onEnd = () => finish("Ended")
  const onData = (chunk: Buffer) => {
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk])
    const result = judge(bytes)
    if (result !== undefined) finish(result)
  }
  socket.on("data", onData).on("end", onEnd).on("close", onEnd).resume()
}
