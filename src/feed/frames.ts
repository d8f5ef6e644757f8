/** WebSocket text frames as bytes, so that one encoding serves every receiver and many frames go out in one write. */
import type { SharedText } from "#network/encode.ts"
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

/** One text frame whose payload is `own` followed by `shared`; the bytes of `shared` are made once and used by all. */
export const textFrameInTwo = (own: string, shared: SharedText): ReadonlyArray<Buffer> => {
  const tail = bytesOf(shared)
  const head = Buffer.byteLength(own)
  const header = headerLength(head + tail.length)
  const first = Buffer.allocUnsafe(header + head)
  writeHeader(first, head + tail.length)
  first.write(own, header)
  return tail.length === 0 ? [first] : [first, tail]
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

const bytes = new WeakMap<SharedText, Buffer>()

function bytesOf(shared: SharedText): Buffer {
  const known = bytes.get(shared)
  if (known !== undefined) return known
  const made = Buffer.from(shared.text)
  bytes.set(shared, made)
  return made
}
