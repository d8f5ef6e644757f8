/** Mints, hashes and redacts API keys and admin tokens. */
import { createHash, randomBytes, randomInt, timingSafeEqual } from "node:crypto"
import { Redacted } from "effect"
import { KeyId } from "#schema/ids.ts"

const prefixes = { agent: "ctl_agt", gateway: "ctl_gw", admin: "ctl_adm" } as const

/**
 * Mints a key `<prefix>_<id>_<secret>`: a prefix for secret scanners, the public id (12 letters and digits), and 32 random
 * bytes in base64url. The key is returned once. Only its hash is stored.
 */
export const mintApiKey = (type: keyof typeof prefixes): { keyId: KeyId; apiKey: Redacted.Redacted } => {
  const keyId = KeyId.make(Array.from({ length: 12 }, randomCharacter).join(""))
  const secret = randomBytes(32).toString("base64url")
  return { keyId, apiKey: Redacted.make(`${prefixes[type]}_${keyId}_${secret}`, { label: "apiKey" }) }
}

/**
 * The SHA-256 (FIPS 180-4) of the whole key's UTF-8 bytes as 64 lower-case hex digits. It is stored and looked up.
 * A plain hash is enough, because a minted key has 256 random bits. Keys of any other shape are hashed in the same way.
 */
export const hashApiKey = (key: string): string => createHash("sha256").update(key, "utf8").digest("hex")

/**
 * Whether both texts are equal, in a time that does not depend on where they differ. Digests are compared, because
 * `timingSafeEqual` needs equal lengths.
 */
export const constantTimeEqual = (a: string, b: string): boolean => timingSafeEqual(digest(a), digest(b))

/**
 * Replaces every minted key in a text by its prefix. For messages that quote a request, which may contain a key by
 * mistake.
 */
export const redactKeys = (text: string): string =>
  text.replaceAll(/(ctl_(?:agt|gw|adm))_[A-Za-z0-9]{12}_[\w-]{43}/gu, "$1_…")

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/** `randomInt` has no modulo bias, so every character is equally likely. */
function randomCharacter(): string {
  return alphabet.charAt(randomInt(alphabet.length))
}

/** Encoded as UTF-16, because UTF-8 maps all lone surrogates to the same bytes. */
function digest(text: string): Buffer {
  return createHash("sha256").update(text, "utf16le").digest()
}
