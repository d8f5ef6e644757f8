/** BLAKE2s-256 and the key derivation of Noise: HKDF over HMAC-BLAKE2s (whitepaper, section 5.4). */
import { hash as hashOnce } from "node:crypto"

const blockBytes = 64

/** BLAKE2s-256 of the parts, one after the other. */
export const hash = (...parts: ReadonlyArray<Uint8Array>): Buffer =>
  hashOnce("blake2s256", parts.length === 1 ? parts[0]! : Buffer.concat(parts), "buffer")

/** HMAC (RFC 2104) with a key of at most 64 bytes. `createHmac` needs 16 µs for each call, two hashes need 3 µs. */
export const hmac = (key: Uint8Array, data: Uint8Array): Buffer => {
  const inner = Buffer.alloc(blockBytes + data.length, 0x36)
  const outer = Buffer.alloc(blockBytes + 32, 0x5c)
  for (let i = 0; i < key.length; i += 1) {
    inner[i]! ^= key[i]!
    outer[i]! ^= key[i]!
  }
  inner.set(data, blockBytes)
  outer.set(hash(inner), blockBytes)
  return hash(outer)
}

/** First output of HKDF. */
export const kdf1 = (chainingKey: Buffer, input: Uint8Array): Buffer => hmac(hmac(chainingKey, input), Buffer.of(1))

/** First two outputs of HKDF. */
export const kdf2 = (chainingKey: Buffer, input: Uint8Array): readonly [Buffer, Buffer] => {
  const secret = hmac(chainingKey, input)
  const first = hmac(secret, Buffer.of(1))
  return [first, hmac(secret, Buffer.concat([first, Buffer.of(2)]))]
}

/** First three outputs of HKDF. */
export const kdf3 = (chainingKey: Buffer, input: Uint8Array): readonly [Buffer, Buffer, Buffer] => {
  const secret = hmac(chainingKey, input)
  const first = hmac(secret, Buffer.of(1))
  const second = hmac(secret, Buffer.concat([first, Buffer.of(2)]))
  return [first, second, hmac(secret, Buffer.concat([second, Buffer.of(3)]))]
}
