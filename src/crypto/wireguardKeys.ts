/** WireGuard's keys: X25519 (RFC 7748), 32 bytes, in base64 as `wg genkey` and `wg pubkey` write them. */
import { createPrivateKey, createPublicKey, randomBytes } from "node:crypto"
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

/** What stands before the 32 bytes in the PKCS #8 form of an X25519 key (RFC 8410, section 7). */
const pkcs8Header = Buffer.from("302e020100300506032b656e04220420", "hex")

function clamp(scalar: Buffer): Buffer {
  scalar.writeUInt8(scalar.readUInt8(0) & 0b1111_1000, 0)
  scalar.writeUInt8(scalar.readUInt8(31) & 0b0111_1111 | 0b0100_0000, 31)
  return scalar
}
