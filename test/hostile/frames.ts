/** Encodes WebSocket frames with arbitrary header bits, which libraries do not send, and parses frames of servers. */

export interface FrameOptions {
  readonly opcode?: number
  readonly fin?: boolean
  /** The three reserved bits, 0 to 7. */
  readonly rsv?: number
  readonly masked?: boolean
  /** The length in the header; the payload may have another length. */
  readonly length?: number | bigint
  /** Number of header bytes for the length. More bytes than necessary are an error too. */
  readonly lengthBytes?: 0 | 2 | 8
}

const mask = Buffer.from([0x37, 0xfa, 0x21, 0x3d])

export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

/** Encodes one frame of a client. */
export const frame = (payload: Buffer | string, options: FrameOptions = {}): Buffer => {
  const data = typeof payload === "string" ? Buffer.from(payload) : payload
  const { fin = true, length = data.length, masked = true, opcode = opcodes.text, rsv = 0 } = options
  const bytes = options.lengthBytes ?? (length < 126 ? 0 : length < 65_536 ? 2 : 8)
  const head = Buffer.alloc(2 + bytes)
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode
  head[1] = (masked ? 0x80 : 0) | (bytes === 0 ? Number(length) : bytes === 2 ? 126 : 127)
  if (bytes === 2) head.writeUInt16BE(Number(length), 2)
  if (bytes === 8) head.writeBigUInt64BE(BigInt(length), 2)
  return masked ? Buffer.concat([head, mask, applyMask(data)]) : Buffer.concat([head, data])
}

export const closeFrame = (code?: number, reason: Buffer | string = ""): Buffer => {
  if (code === undefined) return frame("", { opcode: opcodes.close })
  const data = Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)])
  return frame(data, { opcode: opcodes.close })
}

function applyMask(data: Buffer): Buffer {
  const masked = Buffer.allocUnsafe(data.length)
  for (let index = 0; index < data.length; index++) masked[index] = (data[index] ?? 0) ^ (mask[index & 3] ?? 0)
  return masked
}

export const upgradeRequest = (path = "/", more: ReadonlyArray<string> = []): string =>
  [
    `GET ${path} HTTP/1.1`,
    "Host: localhost",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ...more,
    "",
    ""
  ].join("\r\n")

export interface Received {
  readonly opcode: number
  readonly fin: boolean
  readonly rsv: number
  readonly payload: Buffer
}

/** Parses the complete frames of a server at the start of `bytes`, and returns the remaining bytes. */
export const parseFrames = (bytes: Buffer): { readonly frames: ReadonlyArray<Received>; readonly rest: Buffer } => {
  const frames: Array<Received> = []
  let at = 0
  while (bytes.length - at >= 2) {
    const [first = 0, second = 0] = [bytes[at], bytes[at + 1]]
    const shortLength = second & 127
    const header = shortLength === 126 ? 4 : shortLength === 127 ? 10 : 2
    if (bytes.length - at < header) break
    const length = shortLength === 126
      ? bytes.readUInt16BE(at + 2)
      : shortLength === 127
      ? Number(bytes.readBigUInt64BE(at + 2))
      : shortLength
    if (bytes.length - at < header + length) break
    const payload = bytes.subarray(at + header, at + header + length)
    frames.push({ opcode: first & 15, fin: (first & 128) !== 0, rsv: (first >> 4) & 7, payload })
    at += header + length
  }
  return { frames, rest: bytes.subarray(at) }
}
