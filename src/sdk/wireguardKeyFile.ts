/** Keeps a client's own WireGuard private key in a file, so that the key never leaves the machine. */
import { makeDirectory } from "#files/makeDirectory.ts"
import { writeFileAtomic } from "#files/writeFileAtomic.ts"
import { createPrivateKey, createPublicKey, generateKeyPairSync } from "node:crypto"
import { readFile } from "node:fs/promises"
import { dirname } from "node:path"

/** WireGuard keys in base64, as `wg genkey` and `wg pubkey` print them. */
export interface WireguardKeys {
  readonly privateKey: string
  readonly publicKey: string
}

/**
 * Reads the private key in the file, or creates the file with a new one, mode 0600. Rejects if the file exists and holds no key,
 * or if it cannot be read or written.
 */
export const readOrCreateWireguardKey = async (path: string): Promise<WireguardKeys> => {
  const stored = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined
    throw error
  })
  if (stored !== undefined) {
    const privateKey = stored.trim()
    const publicKey = wireguardPublicKey(privateKey)
    if (publicKey === undefined) throw new Error(`${path} holds no WireGuard private key (32 bytes in base64)`)
    return { privateKey, publicKey }
  }
  const { privateKey: key } = generateKeyPairSync("x25519")
  const privateKey = key.export({ format: "der", type: "pkcs8" }).subarray(-32).toString("base64")
  await makeDirectory(dirname(path))
  await writeFileAtomic(path, `${privateKey}\n`)
  return { privateKey, publicKey: wireguardPublicKey(privateKey) ?? "" }
}

/** DER prefix of an X25519 private key (RFC 8410 section 7). */
const pkcs8Prefix = Buffer.from("302e020100300506032b656e04220420", "hex")

/** The public key in base64; undefined if the text is no canonical base64 of 32 bytes. */
const wireguardPublicKey = (privateKey: string): string | undefined => {
  const bytes = Buffer.from(privateKey, "base64")
  if (bytes.length !== 32 || bytes.toString("base64") !== privateKey) return undefined
  const key = createPrivateKey({ key: Buffer.concat([pkcs8Prefix, bytes]), format: "der", type: "pkcs8" })
  return createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32).toString("base64")
}
