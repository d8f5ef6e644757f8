/**
 * Rotates the master key without downtime.
 *
 * New writes use the new key at once, and stored values are re-encrypted in the background.
 */
import type { RotationRequest } from "#schema/masterKeyApi.ts"
import { type KeyNotEverywhere, MasterKeyStore } from "#store/secrets/MasterKeyStore.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { Context, Effect, Layer, Option, Queue, Schedule, Schema, Semaphore } from "effect"

export type { KeyNotEverywhere }

/** This process cannot generate a master key, or cannot do so now. */
export class KeyNotGenerated extends Schema.TaggedError<KeyNotGenerated>()("KeyNotGenerated", {
  reason: Schema.String
}) {
  override get message(): string {
    return this.reason
  }
}

/** Keys are named by their id (16 hex digits). */
export interface MasterKeyState {
  /** The key that new values are encrypted with. */
  readonly writing: string
  /** Every key that this process can decrypt with. */
  readonly readable: ReadonlyArray<string>
  /** Number of stored values by key. */
  readonly counts: Readonly<Record<string, number>>
  /** Whether values are still being re-encrypted. */
  readonly isRotating: boolean
}

/** Far below the 2 minutes after which a process that has not registered its keys counts as gone. */
const checkInterval = "10 seconds"

/** Pause before rows that another transaction locks are tried again. PostgreSQL ends a transaction that is idle for 5 s. */
const lockedRowRetryDelay = "200 millis"

type MasterKeyStoreShape = MasterKeyStore["Service"]

export class MasterKeys extends Context.Service<MasterKeys, {
  readonly state: Effect.Effect<MasterKeyState, StoreUnavailable>
  /** Switches new writes to the requested key at once. Stored values are re-encrypted in the background. */
  rotate(wanted: RotationRequest): Effect.Effect<MasterKeyState, KeyNotEverywhere | KeyNotGenerated | StoreUnavailable>
}>()("control/services/MasterKeys") {
  static readonly layer = Layer.effect(
    MasterKeys,
    Effect.gen(function*() {
      const store = yield* MasterKeyStore
      const { keyRing: { cipher, generated } } = yield* Secrets
      // Two rotations must not write and remove the file of the previous key at the same time.
      const keyFileMutex = yield* Semaphore.make(1)
      const wake = yield* Queue.sliding<void>(1)

      const state = Effect.gen(function*() {
        const { rotatingFrom, writing } = yield* store.readState
        const counts = yield* store.countByKey
        return { writing, readable: [...cipher.readableIds].toSorted(), counts, isRotating: rotatingFrom.length > 0 }
      })

      const removePreviousKeyFile = Effect.fnUntraced(function*() {
        if (Option.isNone(generated)) return
        const { rotatingFrom, writing } = yield* store.readState
        const isOver = rotatingFrom.length === 0 && writing === cipher.keyId
        if (!isOver || !(yield* generated.value.hasPrevious)) return
        yield* generated.value.removePrevious
        yield* Effect.logInfo(
          "no value is encrypted with the previous master key any more; removed the file master-key.old"
        )
      }, keyFileMutex.withPermits(1))

      const generate = Effect.gen(function*() {
        if (Option.isNone(generated)) {
          return yield* new KeyNotGenerated({
            reason: "cannot generate a master key, because this process reads its master key from the settings; " +
              "set the new key in the settings of every process"
          })
        }
        yield* ensureCanGenerate(store)
        // An earlier attempt may have failed between the key file and the switch in the database. Its key is used.
        const isAlreadyGenerated = (yield* generated.value.hasPrevious) &&
          (yield* store.readState).writing !== cipher.keyId
        if (!isAlreadyGenerated) yield* generated.value.generateNext
        yield* store.registerKeys
        return cipher.keyId
      }).pipe(Effect.catchTag("DataDirectoryUnusable", ({ message }) => new KeyNotGenerated({ reason: message })))

      const rotate = Effect.fn("MasterKeys.rotate")(function*(wanted: RotationRequest) {
        const keyId = wanted.generate === true ? yield* generate : wanted.keyId ?? cipher.keyId
        yield* store.switchWritingKey(keyId)
        yield* recordPendingKeys(store, cipher.readableIds)
        yield* Queue.offer(wake, undefined)
        return yield* state
      }, keyFileMutex.withPermits(1))

      yield* store.registerKeys.pipe(
        Effect.catchCause((cause) =>
          Effect.logDebug("cannot register the master keys of this process; retrying in 10 s", cause)
        ),
        Effect.repeat(Schedule.spaced(checkInterval)),
        Effect.forkScoped
      )
      yield* Effect.forkScoped(Effect.andThen(
        Effect.ignore(recordPendingKeys(store, cipher.readableIds)),
        Effect.forever(Effect.andThen(
          continueRotation(store, cipher.readableIds).pipe(
            Effect.andThen(removePreviousKeyFile()),
            Effect.catchCause((cause) =>
              Effect.logDebug("cannot continue the rotation of the master key; retrying in 10 s", cause)
            )
          ),
          Effect.timeoutOption(Queue.take(wake), checkInterval)
        ))
      ))
      return MasterKeys.of({ state, rotate })
    })
  )
}

/** Fails while another process uses the database, because only this data directory would contain the generated key. */
const ensureCanGenerate = Effect.fnUntraced(function*(store: MasterKeyStoreShape) {
  const { rotatingFrom } = yield* store.readState
  if (rotatingFrom.length > 0) {
    return yield* new KeyNotGenerated({
      reason:
        "cannot generate a master key, because the last rotation is still re-encrypting values; retry when it is done"
    })
  }
  const others = yield* store.listOtherProcesses
  if (others.length === 0) return
  return yield* new KeyNotGenerated({
    reason:
      "cannot generate a master key, because it would exist in this data directory only and other processes use " +
      `the same database: ${others.join(", ")}; set the new key in the settings of every process, or retry 2 minutes ` +
      "after the others have stopped"
  })
})

/** Schedules re-encryption for every non-writing key that still has values and that this process can read. */
const recordPendingKeys = Effect.fnUntraced(function*(store: MasterKeyStoreShape, readable: ReadonlySet<string>) {
  const { writing } = yield* store.readState
  const pending = Object.keys(yield* store.countByKey).filter((id) => id !== writing && readable.has(id))
  if (pending.length > 0) yield* store.addPendingKeys(pending)
})

/** Continues a rotation that any process has started, unless another process is working on it. */
const continueRotation = Effect.fnUntraced(function*(store: MasterKeyStoreShape, readable: ReadonlySet<string>) {
  const { rotatingFrom } = yield* store.readState
  if (rotatingFrom.length === 0) return
  const missing = rotatingFrom.filter((id) => !readable.has(id))
  if (missing.length > 0) {
    return yield* Effect.logWarning(
      `cannot continue the rotation of the master key: this process lacks the keys ${missing.join(", ")}; ` +
        "set CONTROL_MASTER_KEYS_OLD"
    )
  }
  yield* store.runExclusively(reEncryptEverything(store)).pipe(
    Effect.tapCause((cause) =>
      Effect.logWarning("the rotation of the master key was interrupted; retrying in 10 s", cause)
    )
  )
})

/**
 * Re-encrypts all values. Done when one pass has changed no value, because since the switch no process writes with
 * another key.
 */
const reEncryptEverything = Effect.fnUntraced(function*(store: MasterKeyStoreShape) {
  while (true) {
    const { rotatingFrom, writing } = yield* store.readState
    if (rotatingFrom.length === 0) return
    const { changed, skipped, unreadable } = yield* store.reEncrypt
    if (changed === 0 && skipped === 0) {
      yield* store.finishRotation(writing)
      const exception = unreadable === 0
        ? ""
        : `, except ${unreadable} values that cannot be decrypted and stay unchanged; run control doctor`
      return yield* Effect.logInfo(`all values are encrypted with master key ${writing}${exception}`)
    }
    if (skipped > 0) yield* Effect.sleep(lockedRowRetryDelay)
  }
})
