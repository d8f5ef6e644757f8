/** Keyed BLAKE2s with an output of 16 bytes (RFC 7693), which node:crypto lacks. */

const iv = Uint32Array.of(
  0x6a09e667,
  0xbb67ae85,
  0x3c6ef372,
  0xa54ff53a,
  0x510e527f,
  0x9b05688c,
  0x1f83d9ab,
  0x5be0cd19
)

/** Order of the message words: ten rounds of 16, as hexadecimal digits. */
const sigma = Uint8Array.from(
  [
    "0123456789abcdef",
    "ea489fd61c02b753",
    "b8c052fdae367194",
    "7931dcbe265a40f8",
    "905724afe1bc683d",
    "2c6a0b834d75fe19",
    "c51fed4a0763928b",
    "db7ec13950f4862a",
    "6fe9b308c2d714a5",
    "a2847615fb9e3cd0"
  ].join(""),
  (digit) => Number.parseInt(digit, 16)
)

const blockBytes = 64
const outputBytes = 16

/** Scratch space; every call runs to its end before the next one begins. */
const v = new Uint32Array(16)
const m = new Uint32Array(16)
const tail = new Uint8Array(blockBytes)

/** MAC with a fixed key of at most 32 bytes. The state after the key's block is computed once. */
export class Blake2sMac {
  readonly #keyed = new Uint32Array(8)
  readonly #state = new Uint32Array(8)

  constructor(key: Uint8Array) {
    this.#keyed.set(iv)
    this.#keyed[0]! ^= 0x01010000 ^ (key.length << 8) ^ outputBytes
    const block = new Uint8Array(blockBytes)
    block.set(key)
    compress(this.#keyed, block, 0, blockBytes, false)
  }

  /** MAC of `data` from its start to `length`, at least one byte. */
  digest(data: Uint8Array, length: number): Buffer {
    const state = this.#state
    state.set(this.#keyed)
    let at = 0
    for (; length - at > blockBytes; at += blockBytes) compress(state, data, at, blockBytes + at + blockBytes, false)
    tail.fill(0)
    for (let i = 0; at + i < length; i += 1) tail[i] = data[at + i]!
    compress(state, tail, 0, blockBytes + length, true)
    const digest = Buffer.allocUnsafe(outputBytes)
    for (let i = 0; i < 4; i += 1) digest.writeUInt32LE(state[i]!, i * 4)
    return digest
  }
}

function compress(state: Uint32Array, block: Uint8Array, at: number, byteCount: number, isLast: boolean): void {
  for (let i = 0; i < 16; i += 1) {
    const word = at + i * 4
    m[i] = block[word]! | (block[word + 1]! << 8) | (block[word + 2]! << 16) | (block[word + 3]! << 24)
  }
  v.set(state)
  v.set(iv, 8)
  v[12]! ^= byteCount
  if (isLast) v[14] = ~v[14]!
  for (let round = 0; round < 160; round += 16) {
    mix(0, 4, 8, 12, round)
    mix(1, 5, 9, 13, round + 2)
    mix(2, 6, 10, 14, round + 4)
    mix(3, 7, 11, 15, round + 6)
    mix(0, 5, 10, 15, round + 8)
    mix(1, 6, 11, 12, round + 10)
    mix(2, 7, 8, 13, round + 12)
    mix(3, 4, 9, 14, round + 14)
  }
  for (let i = 0; i < 8; i += 1) state[i]! ^= v[i]! ^ v[i + 8]!
}

function mix(a: number, b: number, c: number, d: number, at: number): void {
  let va = (v[a]! + v[b]! + m[sigma[at]!]!) | 0
  let vd = v[d]! ^ va
  vd = (vd >>> 16) | (vd << 16)
  let vc = (v[c]! + vd) | 0
  let vb = v[b]! ^ vc
  vb = (vb >>> 12) | (vb << 20)
  va = (va + vb + m[sigma[at + 1]!]!) | 0
  vd ^= va
  vd = (vd >>> 8) | (vd << 24)
  vc = (vc + vd) | 0
  vb ^= vc
  v[a] = va
  v[b] = (vb >>> 7) | (vb << 25)
  v[c] = vc
  v[d] = vd
}
