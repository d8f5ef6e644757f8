/** Ends of visitors' connections that the gateway does not serve. */
import type { Clock } from "#processes/clock.ts"
import type { Socket } from "node:net"

/** Time in which the visitor must take the last bytes. */
const endMillis = 2_000

/**
 * Sends the last bytes and ends the connection. Discards input until the visitor ends it too, because a close with unread
 * input would be a reset, which can overtake the last bytes.
 */
export const endWith = (socket: Socket, bytes: Buffer, clock: Clock): void => {
  const timer = clock.after(endMillis, () => socket.destroy())
  socket.once("close", timer.cancel)
  socket.end(bytes)
  socket.resume()
}

/** Lets the socket close without an `error` event that nothing handles. */
export const ignoreErrors = (socket: Socket): void => void socket.on("error", () => {})
