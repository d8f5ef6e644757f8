/**
 * Baseline for Control: a bare `ws` server that does the same work with plain loops over its sockets. The server has no
 * database and performs no checks.
 */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { type RawData, type WebSocket, WebSocketServer } from "ws"
import { serveCalls } from "./support/ipcCalls.ts"

const sockets = new Set<WebSocket>()
let heartbeats = 0
let configText: () => string = () => "{\"type\":\"config\",\"data\":{}}"
let tunnelFields: Record<string, unknown> = {}

const server = createServer((request, response) => {
  broadcastDeltas(Number(request.headers["x-sequence"]), 1)
  response.end("{}")
})
const wss = new WebSocketServer({ server, perMessageDeflate: false })

wss.on("connection", (socket) => {
  sockets.add(socket)
  socket.on("message", (data) => receive(socket, data))
  socket.on("close", () => sockets.delete(socket))
  socket.on("error", () => sockets.delete(socket))
})

function receive(socket: WebSocket, data: RawData): void {
  const message = JSON.parse(String(data)) as { type: string }
  if (message.type === "heartbeat") {
    heartbeats += 1
  } else if (message.type === "auth") {
    socket.send(JSON.stringify({ type: "auth_success", data: { message: "Authentication successful" } }))
    socket.send(configText())
  }
}

/** Sends `count` deltas numbered from `sequence`. Each delta is encoded once and written to every socket in turn. */
function broadcastDeltas(sequence: number, count: number): void {
  for (let index = 0; index < count; index += 1) {
    const message = {
      type: "tunnel_update",
      data: { ...tunnelFields, target: `localhost:${sequence + index}`, enabled: true }
    }
    const text = Buffer.from(JSON.stringify(message))
    for (const socket of sockets) socket.send(text, { binary: false })
  }
}

const handlers = {
  listen: async (): Promise<number> => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    return (server.address() as AddressInfo).port
  },
  /** Sets the config that every client receives after `auth`: a fixed text, or its content encoded per client. */
  configure: ({ encodeEach, text }: { readonly text: string; readonly encodeEach: boolean }): void => {
    const content: unknown = JSON.parse(text)
    configText = encodeEach ? () => JSON.stringify(content) : () => text
  },
  /** Sets the tunnel that all deltas update. */
  setTunnel: (tunnel: Record<string, unknown>): void => {
    tunnelFields = tunnel
  },
  sendDeltas: ({ count, sequence }: { readonly sequence: number; readonly count: number }): void =>
    broadcastDeltas(sequence, count),
  heartbeatCount: (): number => heartbeats
}
export type BareServerHandlers = typeof handlers

serveCalls(handlers)
// The probe unreferences the IPC channel. Before the server listens, only the channel keeps the process alive.
process.channel?.ref()
process.on("disconnect", () => process.exit())
