/** HChaCha20: derives the key of XChaCha20-Poly1305, which seals cookies (draft-irtf-cfrg-xchacha-03, section 2.2). */

const constantWords = Uint32Array.of(0x61707865, 0x3320646e, 0x79622d32, 0x6b206574)

/** Key of 32 bytes from a key of 32 bytes and the first 16 bytes of the nonce. */
export const hchacha20 = (key: Buffer, nonce: Buffer): Buffer => {
  const x = new Uint32Array(16)
  x.set(constantWords)
  for (let i = 0; i < 8; i += 1) x[4 + i] = key.readUInt32LE(i * 4)
  for (let i = 0; i < 4; i += 1) x[12 + i] = nonce.readUInt32LE(i * 4)
  for (let round = 0; round < 10; round += 1) {
    quarterRound(x, 0, 4, 8, 12)
    quarterRound(x, 1, 5, 9, 13)
    quarterRound(x, 2, 6, 10, 14)
    quarterRound(x, 3, 7, 11, 15)
    quarterRound(x, 0, 5, 10, 15)
    quarterRound(x, 1, 6, 11, 12)
    quarterRound(x, 2, 7, 8, 13)
    quarterRound(x, 3, 4, 9, 14)
  }
  const derived = Buffer.alloc(32)
  for (let i = 0; i < 4; i += 1) {
    derived.writeUInt32LE(x[i]!, i * 4)
    derived.writeUInt32LE(x[12 + i]!, 16 + i * 4)
  }
  return derived
}

function quarterRound(x: Uint32Array, a: number, b: number, c: number, d: number): void {
  step(x, a, b, d, 16)
  step(x, c, d, b, 12)
  step(x, a, b, d, 8)
  step(x, c, d, b, 7)
}

function step(x: Uint32Array, sum: number, addend: number, rotated: number, bits: number): void {
  x[sum] = x[sum]! + x[addend]!
  const mixed = x[rotated]! ^ x[sum]!
  x[rotated] = (mixed << bits) | (mixed >>> (32 - bits))
}
