/** Applies views one at a time and merges those that arrive during an apply. */
import { Effect, Latch } from "effect"
import { type Change, mergeChanges, type Snapshot, type View } from "./view.ts"

/** The application's callback. Returning or resolving means applied; throwing or rejecting means not applied. */
export type Apply = (view: View, change: Change) => void | Promise<void>

export interface ApplyResult {
  readonly snapshot: Snapshot
  readonly change: Change
  readonly outcome: { readonly _tag: "Applied" } | { readonly _tag: "Failed"; readonly error: unknown }
}

export class ApplyQueue {
  /** The last snapshot that was applied successfully. */
  applied: Snapshot | undefined
  readonly #apply: Apply
  #pending: { readonly snapshot: Snapshot; readonly change: Change } | undefined
  #isApplying = false
  /** Counts resets. The result of an apply that began before a reset is dropped. */
  #generation = 0
  /** The change since `applied` whose apply has failed. */
  #unappliedChange: Change | undefined
  readonly #wake = Latch.makeUnsafe(false)

  constructor(apply: Apply) {
    this.#apply = apply
  }

  get isIdle(): boolean {
    return this.#pending === undefined && !this.#isApplying
  }

  offer(snapshot: Snapshot, change: Change): void {
    this.#pending = { snapshot, change: mergeChanges(this.#pending?.change, change) }
    this.#wake.openUnsafe()
  }

  /** Drops the applied and the pending snapshot, because they belong to another client. */
  reset(): void {
    this.#generation += 1
    this.applied = undefined
    this.#pending = undefined
    this.#unappliedChange = undefined
  }

  /** Applies offered snapshots forever and awaits `onResult` after each one. */
  readonly run = (onResult: (result: ApplyResult) => Effect.Effect<void>): Effect.Effect<never> =>
    Effect.forever(Effect.andThen(
      this.#wake.await,
      Effect.flatMap(this.applyPending, (result) => result === undefined ? Effect.void : onResult(result))
    ))

  /** Uninterruptible: a running `apply` is always awaited, so that two never run at once. */
  readonly applyPending: Effect.Effect<ApplyResult | undefined> = Effect.uninterruptible(Effect.suspend(() => {
    this.#wake.closeUnsafe()
    const next = this.#pending
    if (next === undefined) return Effect.undefined
    this.#pending = undefined
    this.#isApplying = true
    const generation = this.#generation
    const change = mergeChanges(this.#unappliedChange, next.change)
    return Effect.promise(() => this.#attempt(next.snapshot.view, change)).pipe(
      Effect.map((outcome): ApplyResult | undefined => {
        this.#isApplying = false
        if (generation !== this.#generation) return undefined
        if (outcome._tag === "Applied") this.applied = next.snapshot
        this.#unappliedChange = outcome._tag === "Applied" ? undefined : change
        return { snapshot: next.snapshot, change, outcome }
      })
    )
  }))

  async #attempt(view: View, change: Change): Promise<ApplyResult["outcome"]> {
    try {
      await this.#apply(view, change)
      return { _tag: "Applied" }
    } catch (error) {
      return { _tag: "Failed", error }
    }
  }
}
