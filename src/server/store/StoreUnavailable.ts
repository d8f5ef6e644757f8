/** Failure of a store whose database does not answer. */
import { Schema } from "effect"

/**
 * The database does not answer now, or its data is not usable yet. The same request can succeed later. Nothing was stored,
 * except possibly by a commit whose answer was lost.
 */
export class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>()("StoreUnavailable", {
  reason: Schema.String
}) {
  override get message(): string {
    return `the database cannot be used: ${this.reason}`
  }
}
