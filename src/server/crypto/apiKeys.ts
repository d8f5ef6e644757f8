/** API keys: how they are made, and what is kept of them. */
import { createHash, randomBytes, randomInt, timingSafeEqual } from "node:crypto"
import { Redacted } from "effect"
import { KeyId } from "#schema/ids.ts"

const prefixes = { agent: "ctl_agt", gateway: "ctl_gw", admin: "ctl_adm" } as const

/**
 * A new key `<prefix>_<id>_<secret>`: a prefix that secret scanners can know, the public id (12 letters and digits),
 * and 32 random bytes in base64url. The key is shown once; what is stored is its hash.
 */
export const mintApiKey = (type: keyof typeof prefixes): { keyId: KeyId; apiKey: Redacted.Redacted } => {
  const keyId = KeyId.make(Array.from({ length: 12 }, randomCharacter).join(""))
  const secret = randomBytes(32).toString("base64url")
  return { keyId, apiKey: Redacted.make(`${prefixes[type]}_${keyId}_${secret}`, { label: "apiKey" }) }
}

/**
 * The SHA-256 (FIPS 180-4) of the whole key's UTF-8 bytes as 64 lower-case hex digits: what is stored, and looked up
 * by. A plain hash is enough since a minted key has 256 random bits; keys of any other shape are hashed the same way.
 */
export const hashApiKey = (key: string): string => createHash("sha256").update(key, "utf8").digest("hex")

/**
 * Whether both texts are equal, in a time that does not depend on where they differ; digests have one length, as the
 * comparison needs.
 */
export const sameSecret = (a: string, b: string): boolean => timingSafeEqual(digest(a), digest(b))

/** The text with every minted key in it replaced by its prefix: for what repeats what somebody has sent to the wrong place. */
export const withoutKeys = (text: string): string =>
  text.replaceAll(/(ctl_(?:agt|gw|adm))_[A-Za-z0-9]{12}_[\w-]{43}/gu, "$1_…")

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/** `randomInt` draws again rather than take a remainder, so every character is equally likely. */
function randomCharacter(): string {
  return alphabet.charAt(randomInt(alphabet.length))
}

/** UTF-16, since UTF-8 would make all lone surrogates the same. */
function digest(text: string): Buffer {
  return createHash("sha256").update(text, "utf16le").digest()
}
