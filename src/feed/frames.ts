/** WebSocket text frames as bytes, so that one encoding serves every receiver and many frames go out in one write. */
import type { EncodedConfig, SharedText } from "#network/encode.ts"
import { Buffer } from "node:buffer"

/** One unfragmented, unmasked text frame (RFC 6455 section 5.2), which is what a server sends. */
export const textFrame = (text: string): Buffer => {
  const payload = Buffer.byteLength(text)
  const header = headerLength(payload)
  const frame = Buffer.allocUnsafe(header + payload)
  writeHeader(frame, payload)
  frame.write(text, header)
  return frame
}

/** One text frame with the text of a config; the bytes of what it shares are made once and used by all. */
export const configFrame = ({ own, shared }: EncodedConfig): ReadonlyArray<Buffer> => {
  if (shared.length === 0) return [textFrame(own)]
  const tail = bytesOfAll(shared)
  const head = Buffer.byteLength(own)
  const header = headerLength(head + tail.length)
  const first = Buffer.allocUnsafe(header + head)
  writeHeader(first, head + tail.length)
  first.write(own, header)
  return [first, tail]
}

/** FIN and opcode 1 (text). */
const finText = 0x81

function headerLength(payload: number): number {
  return payload < 126 ? 2 : payload < 65_536 ? 4 : 10
}

function writeHeader(frame: Buffer, payload: number): void {
  frame[0] = finText
  if (payload < 126) {
    frame[1] = payload
  } else if (payload < 65_536) {
    frame[1] = 126
    frame.writeUInt16BE(payload, 2)
  } else {
    frame[1] = 127
    frame.writeBigUInt64BE(BigInt(payload), 2)
  }
}

const joinedBytes = new WeakMap<ReadonlyArray<SharedText>, Buffer>()

function bytesOfAll(parts: ReadonlyArray<SharedText>): Buffer {
  const known = joinedBytes.get(parts)
  if (known !== undefined) return known
  const made = Buffer.concat(parts.map(bytesOf))
  joinedBytes.set(parts, made)
  return made
}

const bytes = new WeakMap<SharedText, Buffer>()

function bytesOf(part: SharedText): Buffer {
  const known = bytes.get(part)
  if (known !== undefined) return known
  const made = Buffer.from(part.text)
  bytes.set(part, made)
  return made
}
