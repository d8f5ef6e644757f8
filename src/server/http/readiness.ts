/** Checks whether this process has read all committed changes, for /readyz and the doctor. */
import type { Network } from "#feed/Network.ts"
import { Effect } from "effect"

/** Shorter than the probe timeouts of common supervisors. */
const catchUpTimeout = "2 seconds"

/** Time for the rest of a reading of the whole network, which a small network needs less than. */
const readingTimeout = "200 millis"

/** Reason why this process has not read all committed changes; undefined if it has. */
export const notReadyReason = (network: Network["Service"]): Effect.Effect<string | undefined> =>
  Effect.flatMap(network.reading, (reading) =>
    Effect.timeoutOrElse(Effect.as(network.catchUp, undefined), {
      duration: reading === undefined ? catchUpTimeout : readingTimeout,
      orElse: () => Effect.map(network.reading, (sentence = "the change feed did not catch up within 2 s") => sentence)
    })).pipe(
      Effect.catchTag("StoreUnavailable", ({ message }) => Effect.succeed(message))
    )
