/** The master keys that this process has: the one that it was given or has generated, and others that it may only read. */
import { type Cipher, makeCipher } from "#crypto/Cipher.ts"
import type { SettingsValues } from "#server/Settings.ts"
import { Effect, Option, Redacted } from "effect"
import { randomBytes } from "node:crypto"
import type { DataDirectoryUnusable } from "#store/DataDirectory.ts"
import type { Directory } from "#store/Directory.ts"

export interface KeyRing {
  /** Of all the keys at the time of its use; the one it writes under is the newest of this process. */
  readonly cipher: Cipher
  /** The master key in the data directory, where that is where it comes from. */
  readonly generated: Option.Option<GeneratedKey>
}

export interface GeneratedKey {
  /** Whether the key before this one is kept beside it. */
  readonly hasOld: Effect.Effect<boolean, DataDirectoryUnusable>
  /** Makes another key, and keeps the one before beside it: a process that is killed has them both, whenever that is. */
  readonly replace: Effect.Effect<void, DataDirectoryUnusable>
  /** Nothing is encrypted under the key before any more. */
  readonly forgetOld: Effect.Effect<void, DataDirectoryUnusable>
}

export const newMasterKey = Effect.sync(() => randomBytes(32).toString("base64"))

/** `generate` makes the first key of a data directory that has none. */
export const openKeyRing = Effect.fnUntraced(function*<E>(
  settings: SettingsValues,
  directory: Directory["Service"],
  generate: Effect.Effect<string, E>
) {
  const others = otherKeys(settings)
  if (Option.isSome(settings.masterKey)) {
    return { cipher: makeCipher(settings.masterKey.value, others), generated: Option.none() } satisfies KeyRing
  }
  const opened = yield* directory.opened
  let own = yield* opened.secret("master-key", generate)
  const old = Option.toArray(yield* opened.find("master-key.old"))
  let cipher = makeCipher(own, [...old, ...others])
  const generated: GeneratedKey = {
    hasOld: Effect.map(opened.find("master-key.old"), Option.isSome),
    replace: Effect.gen(function*() {
      const next = Redacted.make(yield* newMasterKey, { label: "master-key" })
      yield* opened.store("master-key.old", own)
      yield* opened.store("master-key", next)
      cipher = makeCipher(next, [own, ...others])
      own = next
    }),
    forgetOld: Effect.gen(function*() {
      yield* opened.remove("master-key.old")
      cipher = makeCipher(own, others)
    })
  }
  return { cipher: living(() => cipher), generated: Option.some(generated) } satisfies KeyRing
})

/** The other keys, which are one text in the settings. */
export const otherKeys = ({ oldMasterKeys }: SettingsValues): ReadonlyArray<Redacted.Redacted> =>
  Option.match(oldMasterKeys, {
    onNone: () => [],
    onSome: (keys) => Redacted.value(keys).split(",").map((key) => Redacted.make(key))
  })

/** Keys come and go while others hold on to this. */
const living = (current: () => Cipher): Cipher => ({
  get keyId() {
    return current().keyId
  },
  get readableIds() {
    return current().readableIds
  },
  encrypt: (plaintext, place) => current().encrypt(plaintext, place),
  decrypt: (stored, place) => current().decrypt(stored, place),
  under: (keyId) => current().under(keyId)
})
