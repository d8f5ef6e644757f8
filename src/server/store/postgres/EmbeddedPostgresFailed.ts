/** The one failure of the embedded database, in a file of its own since each part of it may raise it. */
import { Effect, Schema } from "effect"

/** The embedded database cannot be used; `reason` is a sentence for whoever runs the server. */
export class EmbeddedPostgresFailed extends Schema.TaggedError<EmbeddedPostgresFailed>()("EmbeddedPostgresFailed", {
  reason: Schema.String
}) {
  override get message(): string {
    return `the embedded database cannot be used: ${this.reason}`
  }
}

/** File work whose error, such as `ENOSPC: no space left on device, write`, says enough by itself. */
export const attempt = <A>(work: () => A | Promise<A>): Effect.Effect<A, EmbeddedPostgresFailed> =>
  Effect.tryPromise({
    try: async () => await work(),
    catch: (error) => new EmbeddedPostgresFailed({ reason: error instanceof Error ? error.message : String(error) })
  })
