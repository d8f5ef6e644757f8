/** What an application that embeds Control imports: the names of the spec. */
import { type Options, WSServer } from "./WSServer.ts"

export type { TunnelInput as Tunnel } from "#services/Tunnels.ts"
export type { Client, Options } from "./WSServer.ts"
export { WSServer }

/** The server that `startWebSocketServer` started, until it is closed. */
export let wsServer: WSServer | null = null

/** Starts the one server of this process; throws when it is already running. Clients are served once `ready` resolves. */
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

/** The running server; throws when none was started. */
export function getWebSocketServer(): WSServer {
  if (wsServer === null) throw new Error("WebSocket server not started")
  return wsServer
}
