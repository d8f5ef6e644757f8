/**
 * The signature at the end of a backup file: an HMAC-SHA-256 over all bytes before it, under a key that is derived from the
 * master key. It is an empty gzip member whose extra field (RFC 1952 section 2.3.1.1) has the HMAC, so that every gzip
 * program still reads the file. A reader checks it before it decompresses or parses any byte.
 */
import type { Cipher } from "#crypto/Cipher.ts"
import { Effect, Option, Stream } from "effect"
import { timingSafeEqual } from "node:crypto"
import { createReadStream } from "node:fs"
import { open, stat } from "node:fs/promises"
import { BackupUnusable, reasonOf } from "./BackupUnusable.ts"

const purpose = "control backup signature"

const keyIdBytes = 8
const macBytes = 32
const subfieldBytes = 4 + keyIdBytes + macBytes

/** Header of the gzip member up to the key id. The flag 4 announces the extra field, with one subfield `CB`. */
const memberHead = Buffer.from([
  0x1f,
  0x8b,
  8,
  4,
  ...Buffer.alloc(5),
  255,
  subfieldBytes,
  0,
  ...Buffer.from("CB"),
  keyIdBytes + macBytes,
  0
])
/** An empty deflate block, its CRC-32 and its length. */
const memberTail = Buffer.from([3, 0, 0, 0, 0, 0, 0, 0, 0, 0])
const signatureBytes = memberHead.length + keyIdBytes + macBytes + memberTail.length

/** Passes the bytes of a backup through, and appends the signature under the writing key of the cipher. */
export const sign = <E>(
  bytes: Stream.Stream<Uint8Array, E>,
  { keyId, makeHmac }: Cipher
): Stream.Stream<Uint8Array, E> =>
  Stream.suspend(() => {
    const hmac = makeHmac(purpose)
    const signature = Effect.sync(() =>
      Buffer.concat([memberHead, Buffer.from(keyId, "hex"), hmac.digest(), memberTail])
    )
    return bytes.pipe(
      Stream.tap((chunk) => Effect.sync(() => hmac.update(chunk))),
      Stream.concat(Stream.fromEffect(signature))
    )
  })

/** The signature of a file, and the number of bytes before it. */
export interface Signature {
  /** Id of the master key. */
  readonly keyId: string
  readonly mac: Buffer
  readonly signedBytes: number
}

/** Reads the signature without checking it; none if the file does not end with one. */
export const readSignature = (file: string): Effect.Effect<Option.Option<Signature>, BackupUnusable> =>
  attempt(file, async () => {
    await using handle = await open(file)
    const signedBytes = (await handle.stat()).size - signatureBytes
    if (signedBytes < 0) return Option.none()
    const member = Buffer.alloc(signatureBytes)
    await handle.read(member, 0, signatureBytes, signedBytes)
    const isSignature = member.subarray(0, memberHead.length).equals(memberHead) &&
      member.subarray(-memberTail.length).equals(memberTail)
    if (!isSignature) return Option.none()
    const [keyIdAt, macAt] = [memberHead.length, memberHead.length + keyIdBytes]
    const keyId = member.toString("hex", keyIdAt, macAt)
    return Option.some({ keyId, mac: member.subarray(macAt, macAt + macBytes), signedBytes })
  })

/** The lines of a file: the bytes before its signature, or all bytes of a file without one. */
export interface Content {
  readonly bytes: number
  readonly isSigned: boolean
}

export const readContent = Effect.fnUntraced(function*(file: string) {
  const signature = Option.getOrUndefined(yield* readSignature(file))
  const bytes = signature?.signedBytes ?? (yield* attempt(file, async () => (await stat(file)).size))
  return { bytes, isSigned: signature !== undefined } satisfies Content
})

/** Whether the signature belongs to the file. `cipher` must write under the key of the signature. */
export const isSignedWith = (file: string, { mac, signedBytes }: Signature, cipher: Cipher) =>
  attempt(file, async () => {
    const hmac = cipher.makeHmac(purpose)
    if (signedBytes > 0) {
      for await (const chunk of createReadStream(file, { end: signedBytes - 1 })) hmac.update(chunk)
    }
    return timingSafeEqual(hmac.digest(), mac)
  })

const attempt = <A>(file: string, read: () => Promise<A>): Effect.Effect<A, BackupUnusable> =>
  Effect.tryPromise({ try: read, catch: (error) => new BackupUnusable({ file, reason: reasonOf(error) }) })
