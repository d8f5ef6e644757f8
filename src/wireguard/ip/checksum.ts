/** The Internet checksum (RFC 1071). Pure. */

/** Below this length, a `DataView` costs more than it saves. */
const minViewBytes = 64

/**
 * Adds bytes `from` to `to` of a buffer to a sum of 16-bit words. The range begins at an even offset of what the checksum covers. The
 * sum can exceed 32 bits and stays exact for all packets.
 */
export const addWords = (bytes: Uint8Array, from: number, to: number, sum: number): number =>
  to - from < minViewBytes ? addShort(bytes, from, to, sum) : addLong(bytes, from, to, sum)

const addShort = (bytes: Uint8Array, from: number, to: number, sum: number): number => {
  let high = 0
  let low = 0
  const even = to - ((to - from) & 1)
  for (let at = from; at < even; at += 2) {
    high += bytes[at]!
    low += bytes[at + 1]!
  }
  if (even < to) high += bytes[even]!
  return sum + high * 256 + low
}

/** A 32-bit word counts as much as its two 16-bit words, because 2¹⁶ is 1 in ones' complement arithmetic. */
const addLong = (bytes: Uint8Array, from: number, to: number, sum: number): number => {
  const end = to - from
  const view = new DataView(bytes.buffer, bytes.byteOffset + from, end)
  let total = sum
  let at = 0
  for (; at + 16 <= end; at += 16) {
    total += view.getUint32(at) + view.getUint32(at + 4) + view.getUint32(at + 8) + view.getUint32(at + 12)
  }
  return addShort(bytes, from + at, to, total)
}

/** The checksum of a sum: its folded complement. A sum that includes a right checksum gives 0. */
export const checksumOf = (sum: number): number => {
  let folded = sum
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x1_0000)
  return ~folded & 0xffff
}

/** Sum of the pseudo header of TCP (RFC 9293 section 3.1) and UDP, whose addresses are in the IPv4 header at the start. */
export const pseudoHeaderSum = (packet: Uint8Array, protocol: number, length: number): number =>
  addWords(packet, 12, 20, protocol + length)
