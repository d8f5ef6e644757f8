/** Services of the demo, as people run them at home: a web page with a chat, a game server and a voice server. */
import { createSocket, type Socket } from "node:dgram"
import { once } from "node:events"
import { createServer } from "node:http"
import { type AddressInfo, createServer as createTcp } from "node:net"
import { WebSocketServer } from "ws"

/** Answers every request with the name of its place. */
export const startWeb = async (place: string): Promise<number> => {
  const server = createServer((_request, response) => response.end(`hello from ${place}`))
  new WebSocketServer({ server }).on("connection", (socket) => {
    socket.on("message", (data) => socket.send(`${place} heard ${String(data)}`))
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  return (server.address() as AddressInfo).port
}

/** Echoes TCP. */
export const startGame = async (): Promise<number> => {
  const server = createTcp((socket) => socket.on("error", () => {}).pipe(socket)).listen(0, "127.0.0.1")
  await once(server, "listening")
  return (server.address() as AddressInfo).port
}

/** Echoes UDP. */
export const startVoice = async (): Promise<Socket> => {
  const socket = createSocket("udp4")
  socket.on("message", (data, from) => socket.send(data, from.port, from.address))
  socket.bind(0, "127.0.0.1")
  await once(socket, "listening")
  return socket
}
