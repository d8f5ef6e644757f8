/** Encrypts single stored values, so that the database and its backups reveal no private keys. */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createSecretKey,
  hkdfSync,
  type Hmac,
  type KeyObject,
  randomBytes
} from "node:crypto"
import { Redacted, Result, Schema } from "effect"

/** Location of a stored value. It is authenticated with the value, so a value that is moved elsewhere does not decrypt. */
export const SecretLocation = Schema.Struct({ table: Schema.String, column: Schema.String, row: Schema.String })
export type SecretLocation = typeof SecretLocation.Type

/** A stored value cannot be decrypted. The error contains the location and the reason, and nothing of the value. */
export class CannotDecrypt extends Schema.TaggedError<CannotDecrypt>()("CannotDecrypt", {
  location: SecretLocation,
  reason: Schema.String.annotate({ description: "`written under key <id>` or `damaged`." })
}) {
  override get message(): string {
    const { column, row, table } = this.location
    return `cannot decrypt ${table}.${column} of row ${JSON.stringify(row)}: ${this.reason}`
  }
}

export interface Cipher {
  /** The master key that `encrypt` writes under: 16 hex digits that identify a key and reveal nothing of it. */
  readonly keyId: string
  /** Ids of all master keys that `decrypt` can use, including the writing key. */
  readonly readableIds: ReadonlySet<string>
  /** Text → `v1.<keyId>.<nonce>.<ciphertext>.<tag>`, the last three in base64url. Each call returns a different text. */
  readonly encrypt: (plaintext: string, location: SecretLocation) => string
  /**
   * Decrypts a value that was encrypted for this location with any readable key. A value that was moved or changed in any
   * bit is `damaged`.
   */
  readonly decrypt: (stored: string, location: SecretLocation) => Result.Result<string, CannotDecrypt>
  /** Cipher with the same keys that writes with another of them; undefined for an unknown key. */
  readonly forWritingKey: (keyId: string) => Cipher | undefined
  /**
   * HMAC-SHA-256 under a key that HKDF (RFC 5869) derives from `keyId` for this purpose. It authenticates data outside the
   * database.
   */
  readonly makeHmac: (purpose: string) => Hmac
}

/**
 * AES-256-GCM (NIST SP 800-38D) under a master key of 32 bytes in base64. Nonces are 96 random bits (section 8.2.2),
 * which allows 2^32 values for each key (section 8.3). A master key of another shape is a defect (a RangeError that
 * does not quote it), because Control must not start without its key. One key encrypts. The others only decrypt, so that
 * a master key can be rotated while both are in use.
 */
export const makeCipher = (masterKey: Redacted.Redacted, others: ReadonlyArray<Redacted.Redacted> = []): Cipher => {
  const writingKey = toKey(masterKey)
  return makeCipherFrom(writingKey, new Map([...others.map(toKey), writingKey].map(({ id, key }) => [id, key])))
}

const makeCipherFrom = ({ id: keyId, key }: MasterKey, ring: ReadonlyMap<string, KeyObject>): Cipher => {
  const encrypt = (plaintext: string, location: SecretLocation): string => {
    const nonce = randomBytes(12)
    const cipher = createCipheriv("aes-256-gcm", key, nonce, options).setAAD(additionalData(location))
    const ciphertext = Buffer.concat([cipher.update(plaintext, "utf8"), cipher.final()])
    return `v1.${keyId}.${[nonce, ciphertext, cipher.getAuthTag()].map((part) => part.toString("base64url")).join(".")}`
  }

  const decrypt = (stored: string, location: SecretLocation): Result.Result<string, CannotDecrypt> => {
    const parts = parse(stored)
    const cannotDecrypt = (reason: string) => new CannotDecrypt({ location, reason })
    if (parts === undefined) return Result.fail(cannotDecrypt("damaged"))
    const writtenUnder = ring.get(parts.keyId)
    if (writtenUnder === undefined) return Result.fail(cannotDecrypt(`written under key ${parts.keyId}`))
    return Result.try({
      try: () => {
        const decipher = createDecipheriv("aes-256-gcm", writtenUnder, parts.nonce, options)
          .setAAD(additionalData(location))
          .setAuthTag(parts.tag)
        return Buffer.concat([decipher.update(parts.ciphertext), decipher.final()]).toString("utf8")
      },
      catch: () => cannotDecrypt("damaged")
    })
  }

  const under = (id: string): Cipher | undefined => {
    const other = ring.get(id)
    return other === undefined ? undefined : makeCipherFrom({ id, key: other }, ring)
  }

  const makeHmac = (purpose: string) => createHmac("sha256", Buffer.from(hkdfSync("sha256", key, "", purpose, 32)))

  return { keyId, readableIds: new Set(ring.keys()), encrypt, decrypt, forWritingKey: under, makeHmac }
}

interface MasterKey {
  readonly id: string
  readonly key: KeyObject
}

function toKey(masterKey: Redacted.Redacted): MasterKey {
  const bytes = Buffer.from(Redacted.value(masterKey), "base64")
  if (bytes.length !== 32 || bytes.toString("base64") !== Redacted.value(masterKey)) {
    throw new RangeError("the master key must be 32 bytes in base64")
  }
  const id = createHash("sha256").update("control master key id\0").update(bytes).digest("hex").slice(0, 16)
  return { id, key: createSecretKey(bytes) }
}

/** Length of the full tag in bytes. Without it Node accepts shorter tags, which are easier to forge. */
const options = { authTagLength: 16 }

/** Unambiguous although a row id may contain any character, because names of tables and columns contain no `|`. */
function additionalData({ column, row, table }: SecretLocation): Buffer {
  return Buffer.from(`${table}|${column}|${row}`, "utf8")
}

const storedPattern = /^v1\.([0-9a-f]{16})\.([\w-]{16})\.([\w-]*)\.([\w-]{22})$/u

function parse(stored: string): { keyId: string; nonce: Buffer; ciphertext: Buffer; tag: Buffer } | undefined {
  const [, keyId, nonce, ciphertext, tag] = storedPattern.exec(stored) ?? []
  if (keyId === undefined || nonce === undefined || ciphertext === undefined || tag === undefined) return undefined
  const parts = {
    keyId,
    nonce: Buffer.from(nonce, "base64url"),
    ciphertext: Buffer.from(ciphertext, "base64url"),
    tag: Buffer.from(tag, "base64url")
  }
  // Base64 has unused bits at its end. Only the spelling that `encrypt` writes is accepted.
  const canonical = parts.ciphertext.toString("base64url") === ciphertext && parts.tag.toString("base64url") === tag
  return canonical ? parts : undefined
}
