/** ChaCha20-Poly1305 (RFC 8439) and XChaCha20-Poly1305 in place, by libsodium as WebAssembly. */
import createSodium from "libsodium"
import { keyBytes, longNonceBytes, tagBytes } from "./constants.ts"

/**
 * Measured on one core of the project's machine, for 64 and 1,312 bytes: node:crypto 17 and 20 µs, `@noble/ciphers` 6 and 21 µs,
 * `@chainsafe/as-chacha20poly1305` 1.3 and 12 µs, libsodium 0.6 and 4.3 µs. `libsodium-wrappers` would allocate and copy more.
 */
const sodium = await createSodium()

/** Longest text that one call seals or opens. */
const maxTextBytes = 65_536
const maxAssociatedBytes = 32

// The memory of the module grows only when more is allocated, which is never.
const keyAt = sodium._malloc(keyBytes)
const nonceAt = sodium._malloc(longNonceBytes)
const associatedAt = sodium._malloc(maxAssociatedBytes)
const textAt = sodium._malloc(maxTextBytes + tagBytes)
const memoryAt = (at: number, length: number) => Buffer.from(sodium.HEAPU8.buffer, at, length)
const keyView = memoryAt(keyAt, keyBytes)
const nonceView = memoryAt(nonceAt, longNonceBytes)
const associatedView = memoryAt(associatedAt, maxAssociatedBytes)
const textView = memoryAt(textAt, maxTextBytes + tagBytes)

/**
 * Seals `length` bytes of `source` and zeros up to `paddedLength`, and writes the sealed text with its tag to `target` at `targetAt`.
 * The nonce is 4 zero bytes, then `low` and `high` as little-endian words. `source` and `target` may be one buffer.
 */
export const seal = (
  key: Uint8Array,
  low: number,
  high: number,
  source: Uint8Array,
  length: number,
  paddedLength: number,
  target: Buffer,
  targetAt: number,
  associated?: Uint8Array
): void => {
  keyView.set(key)
  setNonce(low, high)
  textView.set(source.length === length ? source : source.subarray(0, length))
  if (paddedLength > length) textView.fill(0, length, paddedLength)
  const associatedLength = setAssociated(associated)
  sodium._crypto_aead_chacha20poly1305_ietf_encrypt(
    textAt,
    0,
    textAt,
    paddedLength,
    0,
    associatedAt,
    associatedLength,
    0,
    0,
    nonceAt,
    keyAt
  )
  textView.copy(target, targetAt, 0, paddedLength + tagBytes)
}

/**
 * Opens the sealed text and its tag, which fill `text` from `at` to `end`, and writes the plain text in their place. Returns false, and
 * leaves `text` as it is, if the tag does not match.
 */
export const open = (
  key: Uint8Array,
  low: number,
  high: number,
  text: Buffer,
  at: number,
  end: number,
  associated?: Uint8Array
): boolean => {
  const length = end - at
  if (length < tagBytes || length > maxTextBytes + tagBytes) return false
  keyView.set(key)
  setNonce(low, high)
  text.copy(textView, 0, at, end)
  const associatedLength = setAssociated(associated)
  const result = sodium._crypto_aead_chacha20poly1305_ietf_decrypt(
    textAt,
    0,
    0,
    textAt,
    length,
    0,
    associatedAt,
    associatedLength,
    0,
    nonceAt,
    keyAt
  )
  if (result !== 0) return false
  textView.copy(text, at, 0, length - tagBytes)
  return true
}

/** Seals a short text with a nonce of 24 bytes. Returns it with its tag. */
export const sealWithLongNonce = (
  key: Uint8Array,
  nonce: Uint8Array,
  text: Uint8Array,
  associated: Uint8Array
): Buffer => {
  keyView.set(key)
  nonceView.set(nonce)
  textView.set(text)
  const associatedLength = setAssociated(associated)
  sodium._crypto_aead_xchacha20poly1305_ietf_encrypt(
    textAt,
    0,
    textAt,
    text.length,
    0,
    associatedAt,
    associatedLength,
    0,
    0,
    nonceAt,
    keyAt
  )
  return Buffer.from(textView.subarray(0, text.length + tagBytes))
}

/** The text that was sealed with a nonce of 24 bytes; undefined if the tag does not match. */
export const openWithLongNonce = (
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  associated: Uint8Array
): Buffer | undefined => {
  keyView.set(key)
  nonceView.set(nonce)
  textView.set(sealed)
  const associatedLength = setAssociated(associated)
  const result = sodium._crypto_aead_xchacha20poly1305_ietf_decrypt(
    textAt,
    0,
    0,
    textAt,
    sealed.length,
    0,
    associatedAt,
    associatedLength,
    0,
    nonceAt,
    keyAt
  )
  return result === 0 ? Buffer.from(textView.subarray(0, sealed.length - tagBytes)) : undefined
}

function setNonce(low: number, high: number): void {
  nonceView.fill(0, 0, 4)
  nonceView[4] = low
  nonceView[5] = low >>> 8
  nonceView[6] = low >>> 16
  nonceView[7] = low >>> 24
  nonceView[8] = high
  nonceView[9] = high >>> 8
  nonceView[10] = high >>> 16
  nonceView[11] = high >>> 24
}

function setAssociated(associated: Uint8Array | undefined): number {
  if (associated === undefined) return 0
  associatedView.set(associated)
  return associated.length
}
