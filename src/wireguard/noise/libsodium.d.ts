/** Types of the raw libsodium module. Pointers are offsets into its memory. */
declare module "libsodium" {
  /** C's `encrypt(c, clen_p, m, mlen, ad, adlen, nsec, npub, k)`; each 64-bit length is two 32-bit words. */
  type Seal = (
    sealed: number,
    sealedLength: 0,
    text: number,
    textLength: number,
    textLengthHigh: 0,
    associated: number,
    associatedLength: number,
    associatedLengthHigh: 0,
    unused: 0,
    nonce: number,
    key: number
  ) => number

  /** C's `decrypt(m, mlen_p, nsec, c, clen, ad, adlen, npub, k)`. Returns 0 if the tag matches. */
  type Open = (
    text: number,
    textLength: 0,
    unused: 0,
    sealed: number,
    sealedLength: number,
    sealedLengthHigh: 0,
    associated: number,
    associatedLength: number,
    associatedLengthHigh: 0,
    nonce: number,
    key: number
  ) => number

  interface Sodium {
    readonly HEAPU8: Uint8Array<ArrayBuffer>
    readonly _malloc: (bytes: number) => number
    readonly _crypto_aead_chacha20poly1305_ietf_encrypt: Seal
    readonly _crypto_aead_chacha20poly1305_ietf_decrypt: Open
    readonly _crypto_aead_xchacha20poly1305_ietf_encrypt: Seal
    readonly _crypto_aead_xchacha20poly1305_ietf_decrypt: Open
  }

  /** Compiles the WebAssembly module and makes an instance. */
  const createSodium: () => Promise<Sodium>
  export default createSodium
}
