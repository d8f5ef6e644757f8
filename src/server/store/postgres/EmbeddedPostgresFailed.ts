/** The error of the embedded PostgreSQL, which every file of this folder can raise. */
import { Effect, Schema } from "effect"

/** The embedded database cannot start. `reason` is a sentence for the operator. */
export class EmbeddedPostgresFailed extends Schema.TaggedError<EmbeddedPostgresFailed>()("EmbeddedPostgresFailed", {
  reason: Schema.String
}) {
  override get message(): string {
    return `cannot start the embedded database: ${this.reason}`
  }
}

/** Runs file work. The message of its error, such as `ENOSPC: no space left on device, write`, becomes the `reason`. */
export const attemptIO = <A>(work: () => A | Promise<A>): Effect.Effect<A, EmbeddedPostgresFailed> =>
  Effect.tryPromise({
    try: async () => await work(),
    catch: (error) => new EmbeddedPostgresFailed({ reason: error instanceof Error ? error.message : String(error) })
  })
