/** WireGuard's keys: X25519 (RFC 7748), 32 bytes, in base64 as `wg genkey` and `wg pubkey` write them. */
import { createPrivateKey, createPublicKey, diffieHellman, generateKeyPairSync, randomBytes } from "node:crypto"
import { Redacted } from "effect"

/**
 * A new pair from the system's random numbers; the private key is clamped (RFC 7748, section 5), as `wg genkey` does.
 */
export const generateWireguardKeyPair = (): { privateKey: Redacted.Redacted; publicKey: string } => {
  const privateKey = clamp(randomBytes(32)).toString("base64")
  return {
    privateKey: Redacted.make(privateKey, { label: "wireguardPrivateKey" }),
    publicKey: wireguardPublicKey(privateKey)
  }
}

/**
 * The public key of a private key, both 32 bytes in base64; clamped or not, the answer is the same. A private key of
 * another shape is a defect of the caller (a RangeError that does not quote it): `WireguardKey` checks input.
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
 * Whether two can agree on a secret with this public key. With a point of low order (zero is one) the secret would be known to
 * everybody (RFC 7748, section 6.1), and WireGuard takes no such peer.
 */
export const isUsableWireguardKey = (publicKey: string): boolean => {
  const der = Buffer.concat([spkiHeader, Buffer.from(publicKey, "base64")])
  try {
    diffieHellman({ privateKey: probe, publicKey: createPublicKey({ key: der, format: "der", type: "spki" }) })
    return true
  } catch {
    return false
  }
}

/** Any key tells a point of low order from the others. */
const { privateKey: probe } = generateKeyPairSync("x25519")

/** What stands before the 32 bytes in the SubjectPublicKeyInfo of an X25519 key (RFC 8410, section 4). */
const spkiHeader = Buffer.from("302a300506032b656e032100", "hex")

/** What stands before the 32 bytes in the PKCS #8 form of an X25519 key (RFC 8410, section 7). */
const pkcs8Header = Buffer.from("302e020100300506032b656e04220420", "hex")

function clamp(scalar: Buffer): Buffer {
  scalar.writeUInt8(scalar.readUInt8(0) & 0b1111_1000, 0)
  scalar.writeUInt8(scalar.readUInt8(31) & 0b0111_1111 | 0b0100_0000, 31)
  return scalar
}
