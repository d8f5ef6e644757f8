/** Master keys of this process: the current one, and older ones that only decrypt. */
import { type Cipher, makeCipher } from "#crypto/Cipher.ts"
import type { SettingsValues } from "#server/Settings.ts"
import { Effect, Option, Redacted } from "effect"
import { randomBytes } from "node:crypto"
import type { DataDirectory, DataDirectoryUnusable } from "#store/DataDirectory.ts"

/** The master keys of a process. */
export interface KeyRing {
  /** Uses the current keys of the ring at each call; encrypts with the newest one. */
  readonly cipher: Cipher
  /** The master key of the data directory; none if the master key comes from the settings. */
  readonly generated: Option.Option<GeneratedKey>
}

/** The master key in the data directory (files `master-key` and `master-key.old`). */
export interface GeneratedKey {
  /** Whether the previous key is stored. */
  readonly hasPrevious: Effect.Effect<boolean, DataDirectoryUnusable>
  /**
   * Stores the current key as the previous one, and then a new key. A process that is killed at any time loses neither key.
   */
  readonly generateNext: Effect.Effect<void, DataDirectoryUnusable>
  /** Removes the previous key. Call it only when no value is encrypted under that key. */
  readonly removePrevious: Effect.Effect<void, DataDirectoryUnusable>
}

/** A random master key of 32 bytes, as Base64. */
export const newMasterKey = Effect.sync(() => randomBytes(32).toString("base64"))

/** Reads the master keys. `generate` makes the key of a data directory without one. */
export const openKeyRing = Effect.fnUntraced(function*<E>(
  settings: SettingsValues,
  directory: DataDirectory["Service"],
  generate: Effect.Effect<string, E>
) {
  const oldKeys = parseOldMasterKeys(settings)
  if (Option.isSome(settings.masterKey)) {
    return { cipher: makeCipher(settings.masterKey.value, oldKeys), generated: Option.none() } satisfies KeyRing
  }
  const opened = yield* directory.open
  let current = yield* opened.readOrCreateSecret("master-key", generate)
  const previous = Option.toArray(yield* opened.findSecret("master-key.old"))
  let cipher = makeCipher(current, [...previous, ...oldKeys])
  const generated: GeneratedKey = {
    hasPrevious: Effect.map(opened.findSecret("master-key.old"), Option.isSome),
    generateNext: Effect.gen(function*() {
      const next = Redacted.make(yield* newMasterKey, { label: "master-key" })
      yield* opened.writeSecret("master-key.old", current)
      yield* opened.writeSecret("master-key", next)
      cipher = makeCipher(next, [current, ...oldKeys])
      current = next
    }),
    removePrevious: Effect.gen(function*() {
      yield* opened.removeSecret("master-key.old")
      cipher = makeCipher(current, oldKeys)
    })
  }
  return { cipher: delegatingCipher(() => cipher), generated: Option.some(generated) } satisfies KeyRing
})

/** The keys of `CONTROL_MASTER_KEYS_OLD`, which separates them by commas. */
export const parseOldMasterKeys = ({ oldMasterKeys }: SettingsValues): ReadonlyArray<Redacted.Redacted> =>
  Option.match(oldMasterKeys, {
    onNone: () => [],
    onSome: (keys) => Redacted.value(keys).split(",").map((key) => Redacted.make(key))
  })

/** A cipher that delegates each call to the current one, because its holders outlive a change of keys. */
const delegatingCipher = (current: () => Cipher): Cipher => ({
  get keyId() {
    return current().keyId
  },
  get readableIds() {
    return current().readableIds
  },
  encrypt: (plaintext, place) => current().encrypt(plaintext, place),
  decrypt: (stored, place) => current().decrypt(stored, place),
  forWritingKey: (keyId) => current().forWritingKey(keyId),
  makeHmac: (purpose) => current().makeHmac(purpose)
})
