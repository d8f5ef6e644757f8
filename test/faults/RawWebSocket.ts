/** Raw TCP socket that sends arbitrary bytes and decodes the server's WebSocket frames. */
import { requireWithin } from "./waitUntil.ts"
import { randomBytes } from "node:crypto"
import { connect, type Socket } from "node:net"

export class RawWebSocket {
  readonly socket: Socket
  /** Code of the received close frame; 1006 when the connection ended without one. */
  closeCode: number | undefined
  isOpen = false
  /** Response to the upgrade request. */
  head = ""
  readonly texts: Array<string> = []
  #rest: Buffer = Buffer.alloc(0)

  constructor(port: number, upgrade = true, isV1 = false) {
    this.socket = connect({ host: "127.0.0.1", port, noDelay: true })
    this.socket.on("error", () => {})
    this.socket.on("close", () => {
      this.closeCode ??= 1006
      this.isOpen = false
    })
    this.socket.on("data", (chunk) => this.#read(chunk))
    if (upgrade) this.socket.on("connect", () => this.socket.write(upgradeRequest(port, isV1)))
  }

  /** Sends one complete text message, masked as a client must. */
  send(message: object | string): void {
    this.write(frame(0x81, Buffer.from(typeof message === "string" ? message : JSON.stringify(message))))
  }

  write(bytes: Buffer | string): void {
    if (this.socket.writable) this.socket.write(bytes)
  }

  cut(): void {
    this.socket.resetAndDestroy()
  }

  #read(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk])
    if (!this.isOpen) {
      const end = this.#rest.indexOf("\r\n\r\n")
      if (end < 0) return
      this.head = this.#rest.toString("latin1", 0, end)
      this.#rest = this.#rest.subarray(end + 4)
      this.isOpen = this.head.startsWith("HTTP/1.1 101")
    }
    while (this.#rest.length >= 2) {
      const short = (this.#rest[1] ?? 0) & 0x7f
      const start = short < 126 ? 2 : short === 126 ? 4 : 10
      if (this.#rest.length < start) return
      const length = short < 126
        ? short
        : short === 126
        ? this.#rest.readUInt16BE(2)
        : Number(this.#rest.readBigUInt64BE(2))
      if (this.#rest.length < start + length) return
      const payload = this.#rest.subarray(start, start + length)
      const opcode = (this.#rest[0] ?? 0) & 0x0f
      if (opcode === 8) this.closeCode = payload.length >= 2 ? payload.readUInt16BE(0) : 1005
      if (opcode === 1) this.texts.push(payload.toString("utf8"))
      this.#rest = this.#rest.subarray(start + length)
    }
  }
}

/** Builds any frame. `head` is the first byte. */
export const frame = (head: number, payload: Buffer, options: { readonly masked?: boolean } = {}): Buffer => {
  const masked = options.masked ?? true
  const size = payload.length
  const length = size < 126
    ? Buffer.of((masked ? 0x80 : 0) | size)
    : size < 65_536
    ? Buffer.of((masked ? 0x80 : 0) | 126, size >> 8, size & 0xff)
    : Buffer.concat([Buffer.of((masked ? 0x80 : 0) | 127), bigLength(size)])
  return Buffer.concat([Buffer.of(head), length, ...(masked ? [Buffer.alloc(4)] : []), payload])
}

const bigLength = (size: number): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(size))
  return bytes
}

/** Connects and authenticates. Resolves after `auth_success`. */
export const openAuthenticated = async (port: number, apiKey: string, isV1 = false): Promise<RawWebSocket> => {
  const raw = new RawWebSocket(port, true, isV1)
  await requireWithin("the upgrade is answered", 5_000, () => raw.isOpen)
  raw.send({ type: "auth", data: { apiKey } })
  await requireWithin(
    "the client is authenticated",
    5_000,
    () => raw.texts.some((text) => text.includes("auth_success"))
  )
  return raw
}

const upgradeRequest = (port: number, isV1: boolean): string =>
  `GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
  `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\nSec-WebSocket-Version: 13\r\n` +
  (isV1 ? "Sec-WebSocket-Protocol: control.v1\r\n\r\n" : "\r\n")
