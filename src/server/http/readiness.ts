/** Whether this process is up to date: what supervisors and the doctor ask alike. */
import type { Network } from "#feed/Network.ts"
import { Effect } from "effect"

/** A supervisor that asks has less patience than an operator. */
const patience = "2 seconds"

/** Why this process does not know all that is committed; undefined when it does. */
export const reasonToWait = (network: Network["Service"]): Effect.Effect<string | undefined> =>
  network.catchUp.pipe(
    Effect.as(undefined),
    Effect.timeoutOrElse({
      duration: patience,
      orElse: () => Effect.succeed("the feed of changes is not caught up in time")
    }),
    Effect.catchTag("StoreUnavailable", ({ message }) => Effect.succeed(message))
  )
