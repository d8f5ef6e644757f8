/** Changes the master key while everything goes on: names another one, and encrypts what is stored anew behind the scenes. */
import type { RotationWanted } from "#schema/masterKeyApi.ts"
import { type KeyNotEverywhere, MasterKeyStore } from "#store/secrets/MasterKeyStore.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { Context, Effect, Layer, Option, Queue, Schedule, Schema, Semaphore } from "effect"

export type { KeyNotEverywhere }

/** No master key can be made here, or not now. */
export class KeyNotGenerated extends Schema.TaggedError<KeyNotGenerated>()("KeyNotGenerated", {
  reason: Schema.String
}) {
  override get message(): string {
    return this.reason
  }
}

export interface MasterKeyState {
  readonly writing: string
  readonly readable: ReadonlyArray<string>
  readonly counts: Readonly<Record<string, number>>
  readonly isRotating: boolean
}

/** Well within the two minutes for which a process counts as alive. */
const lookEvery = "10 seconds"

/** What somebody else has locked is soon free: a transaction that stands still is ended after five seconds. */
const busyPause = "200 millis"

type MasterKeyStoreShape = MasterKeyStore["Service"]

export class MasterKeys extends Context.Service<MasterKeys, {
  readonly state: Effect.Effect<MasterKeyState, StoreUnavailable>
  /** All that is encrypted from now on is under the key that is wanted; what is stored follows by itself. */
  rotate(wanted: RotationWanted): Effect.Effect<MasterKeyState, KeyNotEverywhere | KeyNotGenerated | StoreUnavailable>
}>()("control/services/MasterKeys") {
  static readonly layer = Layer.effect(
    MasterKeys,
    Effect.gen(function*() {
      const store = yield* MasterKeyStore
      const { keyRing: { cipher, generated } } = yield* Secrets
      // The old key's file is neither made nor removed by two at once.
      const oneAtATime = yield* Semaphore.make(1)
      const wake = yield* Queue.sliding<void>(1)

      const state = Effect.gen(function*() {
        const { rotatingFrom, writing } = yield* store.state
        const counts = yield* store.counts
        return { writing, readable: [...cipher.readableIds].toSorted(), counts, isRotating: rotatingFrom.length > 0 }
      })

      const forgetOld = Effect.fnUntraced(function*() {
        if (Option.isNone(generated)) return
        const { rotatingFrom, writing } = yield* store.state
        const isOver = rotatingFrom.length === 0 && writing === cipher.keyId
        if (!isOver || !(yield* generated.value.hasOld)) return
        yield* generated.value.forgetOld
        yield* Effect.logInfo(
          "nothing is encrypted under the old master key any more: the file master-key.old is removed"
        )
      }, oneAtATime.withPermits(1))

      const generate = Effect.gen(function*() {
        if (Option.isNone(generated)) {
          return yield* new KeyNotGenerated({
            reason:
              "the master key of this process comes from its settings: give it and every other process the new one there"
          })
        }
        yield* mayGenerate(store)
        // A key whose file was written before the database could be told of it is used now.
        const isUnused = (yield* generated.value.hasOld) && (yield* store.state).writing !== cipher.keyId
        if (!isUnused) yield* generated.value.replace
        yield* store.register
        return cipher.keyId
      }).pipe(Effect.catchTag("DataDirectoryUnusable", ({ message }) => new KeyNotGenerated({ reason: message })))

      const rotate = Effect.fn("MasterKeys.rotate")(function*(wanted: RotationWanted) {
        const keyId = wanted.generate === true ? yield* generate : wanted.keyId ?? cipher.keyId
        yield* store.switchTo(keyId)
        yield* noteLeft(store, cipher.readableIds)
        yield* Queue.offer(wake, undefined)
        return yield* state
      }, oneAtATime.withPermits(1))

      yield* store.register.pipe(
        Effect.catchCause((cause) => Effect.logDebug("this process could not say which keys it can read", cause)),
        Effect.repeat(Schedule.spaced(lookEvery)),
        Effect.forkScoped
      )
      yield* Effect.forkScoped(Effect.andThen(
        Effect.ignore(noteLeft(store, cipher.readableIds)),
        Effect.forever(Effect.andThen(
          continueRotation(store, cipher.readableIds).pipe(
            Effect.andThen(forgetOld()),
            Effect.catchCause((cause) => Effect.logDebug("the change of the master key waits", cause))
          ),
          Effect.timeoutOption(Queue.take(wake), lookEvery)
        ))
      ))
      return MasterKeys.of({ state, rotate })
    })
  )
}

/** Nobody else may depend on a key that only this process's data directory will have. */
const mayGenerate = Effect.fnUntraced(function*(store: MasterKeyStoreShape) {
  const { rotatingFrom } = yield* store.state
  if (rotatingFrom.length > 0) {
    return yield* new KeyNotGenerated({
      reason: "the last change of the master key has not ended: its values are still being encrypted anew"
    })
  }
  const others = yield* store.others
  if (others.length === 0) return
  return yield* new KeyNotGenerated({
    reason: `a key that is generated here would be in this data directory only, and these processes serve the same ` +
      `database: ${
        others.join(", ")
      }. Give all of them the new key by their settings; one that is gone counts for two minutes`
  })
})

/** Values that this process could encrypt anew, whoever has left them. */
const noteLeft = Effect.fnUntraced(function*(store: MasterKeyStoreShape, readable: ReadonlySet<string>) {
  const { writing } = yield* store.state
  const left = Object.keys(yield* store.counts).filter((id) => id !== writing && readable.has(id))
  if (left.length > 0) yield* store.noteLeft(left)
})

/** Goes on with what this process or another one has begun, unless another one is at it. */
const continueRotation = Effect.fnUntraced(function*(store: MasterKeyStoreShape, readable: ReadonlySet<string>) {
  const { rotatingFrom } = yield* store.state
  if (rotatingFrom.length === 0) return
  const missing = rotatingFrom.filter((id) => !readable.has(id))
  if (missing.length > 0) {
    return yield* Effect.logWarning(
      `the change of the master key needs ${missing.join(", ")}, which this process lacks`
    )
  }
  yield* store.alone(untilDone(store)).pipe(
    Effect.tapCause((cause) =>
      Effect.logWarning("the change of the master key was interrupted; it goes on soon", cause)
    )
  )
})

/** Over as soon as one look at every value has found none to encrypt anew: nobody writes under another key since the switch. */
const untilDone = Effect.fnUntraced(function*(store: MasterKeyStoreShape) {
  while (true) {
    const { rotatingFrom, writing } = yield* store.state
    if (rotatingFrom.length === 0) return
    const { busy, changed, unreadable } = yield* store.pass
    if (changed === 0 && busy === 0) {
      yield* store.finish(writing)
      const kept = unreadable === 0 ? "" : `, but ${unreadable} values cannot be read and stay as they are`
      return yield* Effect.logInfo(`everything is encrypted under master key ${writing}${kept}`)
    }
    if (busy > 0) yield* Effect.sleep(busyPause)
  }
})
