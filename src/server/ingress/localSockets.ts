/** Connections of the Unix socket in the data directory: their callers can read the data directory. */
import { createServer, type RequestListener, type Server } from "node:http"
import { headerTimeouts, type RequestLimits } from "./requestLimits.ts"

const localSockets = new WeakSet<object>()

/** Creates the server of the Unix socket. It does not listen yet. */
export const makeLocalServer = (limits: RequestLimits, maxConnections: number, listener: RequestListener): Server => {
  const server = createServer({ ...headerTimeouts, ...limits }, listener)
  server.maxConnections = maxConnections
  // Without a free file descriptor `accept` fails, and an error without a listener would end the process.
  return server.on("connection", (socket) => localSockets.add(socket)).on("error", () => {})
}

/** Whether a request came through the Unix socket. */
export const isLocalSocket = (socket: object): boolean => localSockets.has(socket)

/** Stands for the address of these callers, and is one holder in each quota. */
export const localAddress = "socket"
