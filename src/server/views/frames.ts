/** WebSocket text frames as bytes, encoded once for all receivers and joined into one write. */
import type { NetworkState } from "#network/NetworkState.ts"
import { prepareAgents } from "./encodeAgents.ts"
import { type EncodedConfig, sharedParts, type SharedText } from "./encodeConfig.ts"
import { Buffer } from "node:buffer"

/** One unfragmented, unmasked text frame (RFC 6455 section 5.2), as servers send it. */
export const textFrame = (text: string): Buffer => {
  const payload = Buffer.byteLength(text)
  const header = headerLength(payload)
  const frame = Buffer.allocUnsafe(header + payload)
  writeHeader(frame, payload)
  frame.write(text, header)
  return frame
}

/** One text frame with a config, in chunks; the bytes of shared text are encoded once for all configs. */
export const configFrame = ({ own, shared }: EncodedConfig): ReadonlyArray<Buffer> => {
  if (shared.length === 0) return [textFrame(own)]
  const { buffers, length } = bytesOfAll(shared)
  const head = Buffer.byteLength(own)
  const header = headerLength(head + length)
  const first = Buffer.allocUnsafe(header + head)
  writeHeader(first, head + length)
  first.write(own, header)
  return [first, ...buffers]
}

/** Encodes what the configs of many gateways share in steps of a few milliseconds, between which the caller can do other work. */
export function* prepareConfigs(state: NetworkState): Iterable<void> {
  for (const part of sharedParts(state)) yield void bytesOf(part)
  yield* prepareAgents(state.agents)
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

interface SharedBytes {
  readonly buffers: ReadonlyArray<Buffer>
  readonly length: number
}

const sharedBytes = new WeakMap<ReadonlyArray<SharedText>, SharedBytes>()

/**
 * The bytes of shared text. The first call returns the parts unjoined, because most of their bytes are cached from before the
 * last change. The second call joins them into one buffer for all further configs.
 */
function bytesOfAll(parts: ReadonlyArray<SharedText>): SharedBytes {
  const known = sharedBytes.get(parts)
  if (known?.buffers.length === 1) return known
  const buffers = known === undefined ? parts.map(bytesOf) : [Buffer.concat(known.buffers, known.length)]
  const result = { buffers, length: known?.length ?? buffers.reduce((sum, buffer) => sum + buffer.length, 0) }
  sharedBytes.set(parts, result)
  return result
}

const bytes = new WeakMap<SharedText, Buffer>()

function bytesOf(part: SharedText): Buffer {
  const known = bytes.get(part)
  if (known !== undefined) return known
  const encoded = Buffer.from(part.text)
  bytes.set(part, encoded)
  return encoded
}
