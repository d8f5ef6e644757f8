/** One end of a measured TCP transfer: over the system's network, or over a userspace WireGuard device. */
import { serveCalls } from "#bench/support/ipcCalls.ts"
import { systemClock } from "#processes/clock.ts"
import type { Device, PeerConfig } from "#wireguard/Device.ts"
import { openUserspaceDevice } from "#wireguard/userspace/UserspaceDevice.ts"
import { connect, createServer } from "node:net"
import type { Duplex } from "node:stream"

/** Ports of the server: it reads everything, or sends the number of bytes of the request. */
const sinkPort = 20_001
const sourcePort = 20_002

const chunk = Buffer.alloc(65_536)
let device: Device | undefined

const handlers = {
  /** Opens a userspace device. Returns its WireGuard port. */
  openDevice: async ({ privateKey }: { readonly privateKey: string }): Promise<number> => {
    device = await openUserspaceDevice({ privateKey, listenPort: 0, mtu: 1_280, clock: systemClock })
    return device.listenPort
  },
  configure: async (peer: PeerConfig): Promise<void> => await device?.configure([peer]),
  serve: async ({ host }: { readonly host: string }): Promise<void> => {
    await accept(host, sinkPort, (socket) => {
      socket.resume().once("end", () => socket.end("read"))
    })
    await accept(host, sourcePort, (socket) => {
      socket.once("data", (request) => sendAll(socket, Number(String(request))))
    })
  },
  upload: async ({ bytes, host }: { readonly bytes: number; readonly host: string }): Promise<number> => {
    const socket = dial(host, sinkPort)
    await opened(socket)
    const begin = performance.now()
    sendAll(socket, bytes)
    await readAll(socket)
    return performance.now() - begin
  },
  download: async ({ bytes, host }: { readonly bytes: number; readonly host: string }): Promise<number> => {
    const socket = dial(host, sourcePort)
    await opened(socket)
    const begin = performance.now()
    socket.write(String(bytes))
    const received = await readAll(socket)
    if (received !== bytes) throw new Error(`received ${received} of ${bytes} bytes`)
    return performance.now() - begin
  }
}
export type TunnelEndHandlers = typeof handlers

serveCalls(handlers)
// The probe lets a process end that has nothing open, as this one before its first call.
process.channel?.ref()

async function accept(host: string, port: number, onSocket: (socket: Duplex) => void): Promise<void> {
  if (device !== undefined) {
    await device.listen(port, (incoming) => {
      const socket = incoming.accept()
      socket.allowHalfOpen = true
      onSocket(socket)
    })
    return
  }
  await new Promise<void>((resolve, reject) => {
    createServer({ allowHalfOpen: true }, onSocket).once("error", reject).listen(port, host, resolve)
  })
}

function dial(address: string, port: number): Duplex {
  if (device !== undefined) {
    const socket = device.connect({ address, port, timeoutMillis: 10_000 })
    socket.allowHalfOpen = true
    return socket
  }
  return connect({ host: address, port, allowHalfOpen: true })
}

function opened(socket: Duplex): Promise<void> {
  return new Promise((resolve, reject) => void socket.once("connect", resolve).once("error", reject))
}

function sendAll(socket: Duplex, bytes: number): void {
  let remaining = bytes
  const send = () => {
    while (remaining > 0) {
      const part = remaining < chunk.length ? chunk.subarray(0, remaining) : chunk
      remaining -= part.length
      if (!socket.write(part)) return void socket.once("drain", send)
    }
    socket.end()
  }
  send()
}

/** Resolves with the number of received bytes at the end of the stream. */
function readAll(socket: Duplex): Promise<number> {
  let received = 0
  return new Promise((resolve, reject) => {
    socket.on("data", (part: Buffer) => void (received += part.length))
    socket.once("end", () => resolve(received)).once("error", reject)
  })
}
