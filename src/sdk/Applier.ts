/** Puts views into force, one at a time: what comes while one is being applied is merged, and the next gets the newest. */
import { Effect, Latch } from "effect"
import { type Change, type Held, merge, type View } from "./view.ts"

/** What the client's owner does with a view. It returns or resolves when the view is in force, and throws if it cannot be. */
export type Apply = (view: View, change: Change) => void | Promise<void>

export interface Settled {
  readonly held: Held
  readonly change: Change
  readonly outcome: { readonly _tag: "Applied" } | { readonly _tag: "Failed"; readonly error: unknown }
}

export class Applier {
  /** The last view that was applied: it is in force. */
  good: Held | undefined
  readonly #apply: Apply
  #pending: { readonly held: Held; readonly change: Change } | undefined
  #isApplying = false
  /** Counts what was forgotten: what began to be applied before that is no good any more. */
  #generation = 0
  /** What has changed since `good` and could not be applied. */
  #failed: Change | undefined
  readonly #wake = Latch.makeUnsafe(false)

  constructor(apply: Apply) {
    this.#apply = apply
  }

  get isIdle(): boolean {
    return this.#pending === undefined && !this.#isApplying
  }

  offer(held: Held, change: Change): void {
    this.#pending = { held, change: merge(this.#pending?.change, change) }
    this.#wake.openUnsafe()
  }

  /** What was in force is of no use any more, nor is what waits: the next view is the first. */
  forget(): void {
    this.#generation += 1
    this.good = undefined
    this.#pending = undefined
    this.#failed = undefined
  }

  /** Applies what is offered, and gives each outcome to `settle`, which is done before the next begins. */
  readonly run = (settle: (settled: Settled) => Effect.Effect<void>): Effect.Effect<never> =>
    Effect.forever(Effect.andThen(
      this.#wake.await,
      Effect.flatMap(this.applyPending, (settled) => settled === undefined ? Effect.void : settle(settled))
    ))

  /** An `apply` that has begun is waited for, whatever happens, so that no two ever run at once. */
  readonly applyPending: Effect.Effect<Settled | undefined> = Effect.uninterruptible(Effect.suspend(() => {
    this.#wake.closeUnsafe()
    const next = this.#pending
    if (next === undefined) return Effect.undefined
    this.#pending = undefined
    this.#isApplying = true
    const generation = this.#generation
    const change = merge(this.#failed, next.change)
    return Effect.promise(() => this.#attempt(next.held.view, change)).pipe(
      Effect.map((outcome): Settled | undefined => {
        this.#isApplying = false
        if (generation !== this.#generation) return undefined
        if (outcome._tag === "Applied") this.good = next.held
        this.#failed = outcome._tag === "Applied" ? undefined : change
        return { held: next.held, change, outcome }
      })
    )
  }))

  async #attempt(view: View, change: Change): Promise<Settled["outcome"]> {
    try {
      await this.#apply(view, change)
      return { _tag: "Applied" }
    } catch (error) {
      return { _tag: "Failed", error }
    }
  }
}
