/** Entry point `control`: the names of the specification for applications that embed Control. */
import { type Options, WSServer } from "./WSServer.ts"

export type { TunnelInput as Tunnel } from "#services/Tunnels.ts"
export type { Client, Options } from "./WSServer.ts"
export { WSServer }

/** The server that `startWebSocketServer` has started; null after it is closed. */
export let wsServer: WSServer | null = null

/** Starts the one server of this process, which serves clients once `ready` resolves. Throws if a server is running. */
export function startWebSocketServer(port = 3001, options: Options = {}): WSServer {
  if (wsServer !== null) throw new Error("WebSocket server already running")
  const server = new WSServer(port, options)
  wsServer = server
  const forget = () => {
    if (wsServer === server) wsServer = null
  }
  server.closed.then(forget)
  server.ready.catch(forget)
  return server
}

/** Returns the running server. Throws if no server is running. */
export function getWebSocketServer(): WSServer {
  if (wsServer === null) throw new Error("WebSocket server not started")
  return wsServer
}
