/** Generates and checks WireGuard keys: X25519 (RFC 7748), 32 bytes in base64. */
import { createPrivateKey, createPublicKey, diffieHellman, generateKeyPairSync, randomBytes } from "node:crypto"
import { Redacted } from "effect"

/**
 * Generates a key pair from the random numbers of the system. The private key is clamped like those of `wg genkey`
 * (RFC 7748, section 5).
 */
export const generateWireguardKeyPair = (): { privateKey: Redacted.Redacted; publicKey: string } => {
  const privateKey = clamp(randomBytes(32)).toString("base64")
  return {
    privateKey: Redacted.make(privateKey, { label: "wireguardPrivateKey" }),
    publicKey: wireguardPublicKey(privateKey)
  }
}

/**
 * Derives the public key of a private key, both 32 bytes in base64. Clamping does not change the result. A private key of
 * another shape is a defect of the caller (a RangeError that does not quote it), because `WireguardKey` checks input.
 */
export const wireguardPublicKey = (privateKey: string): string => {
  const scalar = Buffer.from(privateKey, "base64")
  if (scalar.length !== 32 || scalar.toString("base64") !== privateKey) {
    throw new RangeError("a WireGuard key is 32 bytes in base64")
  }
  const pkcs8 = Buffer.concat([pkcs8Header, scalar])
  const spki = createPublicKey(createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" })).export({
    format: "der",
    type: "spki"
  })
  return spki.subarray(-32).toString("base64")
}

/**
 * Whether a key agreement with this public key is secret. With a point of low order, such as zero, anyone knows the result
 * (RFC 7748, section 6.1), and WireGuard rejects such a peer. Another encoding of the same point is unusable too, because two
 * clients could then have one key.
 */
export const isUsableWireguardKey = (publicKey: string): boolean => {
  const point = Buffer.from(publicKey, "base64")
  if (!isCanonical(point)) return false
  const der = Buffer.concat([spkiHeader, point])
  try {
    diffieHellman({ privateKey: probe, publicKey: createPublicKey({ key: der, format: "der", type: "spki" }) })
    return true
  } catch {
    return false
  }
}

/** X25519 ignores the top bit and reduces modulo 2^255 - 19 (RFC 7748, section 5); `wg pubkey` prints neither form. */
const isCanonical = (point: Buffer): boolean => Buffer.compare(point.toReversed(), modulus) < 0

/** 2^255 - 19, big-endian. */
const modulus = Buffer.from(`7f${"ff".repeat(30)}ed`, "hex")

/** Any private key detects a point of low order. */
const { privateKey: probe } = generateKeyPairSync("x25519")

/** Prefix of the 32 bytes in the SubjectPublicKeyInfo of an X25519 key (RFC 8410, section 4). */
const spkiHeader = Buffer.from("302a300506032b656e032100", "hex")

/** Prefix of the 32 bytes in the PKCS #8 form of an X25519 key (RFC 8410, section 7). */
const pkcs8Header = Buffer.from("302e020100300506032b656e04220420", "hex")

function clamp(scalar: Buffer): Buffer {
  scalar.writeUInt8(scalar.readUInt8(0) & 0b1111_1000, 0)
  scalar.writeUInt8(scalar.readUInt8(31) & 0b0111_1111 | 0b0100_0000, 31)
  return scalar
}
