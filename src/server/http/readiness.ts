/** Checks whether this process has read all committed changes, for /readyz and the doctor. */
import type { Network } from "#feed/Network.ts"
import { Effect } from "effect"

/** Shorter than the probe timeouts of common supervisors. */
const catchUpTimeout = "2 seconds"

/** Reason why this process has not read all committed changes; undefined if it has. */
export const notReadyReason = (network: Network["Service"]): Effect.Effect<string | undefined> =>
  network.catchUp.pipe(
    Effect.as(undefined),
    Effect.timeoutOrElse({
      duration: catchUpTimeout,
      orElse: () => Effect.succeed("the change feed did not catch up within 2 s")
    }),
    Effect.catchTag("StoreUnavailable", ({ message }) => Effect.succeed(message))
  )
