/** The Internet checksum (RFC 1071). Pure. */

/** Adds bytes `from` to `to` of a buffer to a sum of 16-bit words. The sum of a whole packet fits in 32 bits. */
export const addWords = (bytes: Uint8Array, from: number, to: number, sum: number): number => {
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

/** The checksum of a sum: its folded complement. A sum that includes a right checksum gives 0. */
export const checksumOf = (sum: number): number => {
  let folded = sum
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x1_0000)
  return ~folded & 0xffff
}

/** Sum of the pseudo header of TCP (RFC 9293 section 3.1) and UDP, whose addresses are in the IPv4 header at the start. */
export const pseudoHeaderSum = (packet: Uint8Array, protocol: number, length: number): number =>
  addWords(packet, 12, 20, protocol + length)
