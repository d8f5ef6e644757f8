/** Encryption of single stored values, so that neither the database nor its backups give private keys away. */
import { createCipheriv, createDecipheriv, createHash, createSecretKey, type KeyObject, randomBytes } from "node:crypto"
import { Redacted, Result, Schema } from "effect"

/** Where a value is stored. It is authenticated with the value, so a value moved elsewhere no longer decrypts. */
export const Place = Schema.Struct({ table: Schema.String, column: Schema.String, row: Schema.String })
export type Place = typeof Place.Type

/** A stored value that this master key cannot read. Tells where it is and why, and nothing of the value. */
export class CannotDecrypt extends Schema.TaggedError<CannotDecrypt>()("CannotDecrypt", {
  place: Place,
  reason: Schema.String.annotate({ description: "`written under key <id>` or `damaged`." })
}) {
  override get message(): string {
    const { column, row, table } = this.place
    return `cannot decrypt ${table}.${column} of row ${JSON.stringify(row)}: ${this.reason}`
  }
}

export interface Cipher {
  /** The master key that `encrypt` writes under: 16 hex digits that tell keys apart and reveal nothing of them. */
  readonly keyId: string
  /** Every master key that `decrypt` can read, the writing one included. */
  readonly readableIds: ReadonlySet<string>
  /** Text → `v1.<keyId>.<nonce>.<ciphertext>.<tag>`, the last three in base64url; different each time. */
  readonly encrypt: (plaintext: string, place: Place) => string
  /** The text that was encrypted for this very place, under any readable key. A value changed in any bit, or moved, is `damaged`. */
  readonly decrypt: (stored: string, place: Place) => Result.Result<string, CannotDecrypt>
  /** The same keys, but another one of them writes; undefined where there is no such key. */
  readonly under: (keyId: string) => Cipher | undefined
}

/**
 * AES-256-GCM (NIST SP 800-38D) under a master key of 32 bytes in base64. Nonces are 96 random bits (section 8.2.2),
 * which allows 2^32 values for each key (section 8.3). A master key of another shape is a defect (a RangeError that
 * does not quote it): Control must not start without its key. One key writes, others may only be read, so that a master
 * key can be replaced while both are in use.
 */
export const makeCipher = (masterKey: Redacted.Redacted, others: ReadonlyArray<Redacted.Redacted> = []): Cipher => {
  const own = toKey(masterKey)
  return writingUnder(own, new Map([...others.map(toKey), own].map(({ id, key }) => [id, key])))
}

const writingUnder = ({ id: keyId, key }: MasterKey, ring: ReadonlyMap<string, KeyObject>): Cipher => {
  const encrypt = (plaintext: string, place: Place): string => {
    const nonce = randomBytes(12)
    const cipher = createCipheriv("aes-256-gcm", key, nonce, options).setAAD(additionalData(place))
    const ciphertext = Buffer.concat([cipher.update(plaintext, "utf8"), cipher.final()])
    return `v1.${keyId}.${[nonce, ciphertext, cipher.getAuthTag()].map((part) => part.toString("base64url")).join(".")}`
  }

  const decrypt = (stored: string, place: Place): Result.Result<string, CannotDecrypt> => {
    const parts = parse(stored)
    const refused = (reason: string) => new CannotDecrypt({ place, reason })
    if (parts === undefined) return Result.fail(refused("damaged"))
    const writtenUnder = ring.get(parts.keyId)
    if (writtenUnder === undefined) return Result.fail(refused(`written under key ${parts.keyId}`))
    return Result.try({
      try: () => {
        const decipher = createDecipheriv("aes-256-gcm", writtenUnder, parts.nonce, options)
          .setAAD(additionalData(place))
          .setAuthTag(parts.tag)
        return Buffer.concat([decipher.update(parts.ciphertext), decipher.final()]).toString("utf8")
      },
      catch: () => refused("damaged")
    })
  }

  const under = (id: string): Cipher | undefined => {
    const other = ring.get(id)
    return other === undefined ? undefined : writingUnder({ id, key: other }, ring)
  }

  return { keyId, readableIds: new Set(ring.keys()), encrypt, decrypt, under }
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

/** The full tag: Node would otherwise accept a shortened one, which is easier to forge. */
const options = { authTagLength: 16 }

/** Unambiguous although a row's id may hold any character: tables and columns are our own names, without a bar. */
function additionalData({ column, row, table }: Place): Buffer {
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
  // Base64 has spare bits at its end; only the one spelling that `encrypt` writes is taken.
  const canonical = parts.ciphertext.toString("base64url") === ciphertext && parts.tag.toString("base64url") === tag
  return canonical ? parts : undefined
}
