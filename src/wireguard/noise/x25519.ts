/** X25519 keys as 32 raw bytes, by node:crypto. */
import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from "node:crypto"

/** DER before the raw key: PKCS #8 and SubjectPublicKeyInfo of X25519 (RFC 8410). */
const privatePrefix = Buffer.from("302e020100300506032b656e04220420", "hex")

export interface PrivateKey {
  readonly key: KeyObject
  /** 32 raw bytes. */
  readonly publicKey: Buffer
}

/** Private key of 32 raw bytes. Any 32 bytes are a key; OpenSSL clamps them. */
export const privateKeyFrom = (raw: Uint8Array): PrivateKey => {
  const der = Buffer.concat([privatePrefix, raw])
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" })
  der.fill(0)
  const { x = "" } = createPublicKey(key).export({ format: "jwk" })
  return { key, publicKey: Buffer.from(x, "base64url") }
}

export const publicKeyFrom = (raw: Buffer): KeyObject =>
  createPublicKey({ key: { kty: "OKP", crv: "X25519", x: raw.toString("base64url") }, format: "jwk" })

/** Shared secret of 32 bytes; undefined for a public key of low order, with which every secret is zero. */
export const sharedSecret = (privateKey: PrivateKey, publicKey: KeyObject): Buffer | undefined => {
  try {
    return diffieHellman({ privateKey: privateKey.key, publicKey })
  } catch {
    return undefined
  }
}

/** The 32 bytes of a key in base64. Throws if the text is anything else. */
export const decodeKey = (text: string, name: string): Buffer => {
  const raw = Buffer.from(text, "base64")
  if (raw.length !== 32 || raw.toString("base64") !== text) {
    throw new Error(`cannot use the ${name}: it is not 32 bytes in base64`)
  }
  return raw
}
