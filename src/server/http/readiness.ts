/** Checks whether this process has read all committed changes, for /readyz and the doctor. */
import { UpdateHeld } from "#feed/LossGuard.ts"
import type { Network } from "#feed/Network.ts"
import type { WriteCheck } from "#store/WriteCheck.ts"
import { Effect } from "effect"

/** Shorter than the probe timeouts of common supervisors. */
const catchUpTimeout = "2 seconds"

/** Time for the rest of a reading of the whole network, which a small network needs less than. */
const readingTimeout = "200 millis"

/** Whether this process has read all committed changes, and if not, why. */
export type FeedState =
  | { readonly _tag: "Current" }
  /** All changes are read, but the loss guard holds them back. Known clients log in and keep their views. */
  | { readonly _tag: "Held"; readonly reason: string }
  | { readonly _tag: "Behind"; readonly reason: string }

export const feedState = (network: Network["Service"]): Effect.Effect<FeedState> =>
  Effect.flatMap(
    network.reading,
    (reading) =>
      Effect.timeoutOrElse(Effect.as(network.catchUp, { _tag: "Current" } satisfies FeedState), {
        duration: reading === undefined ? catchUpTimeout : readingTimeout,
        orElse: () =>
          Effect.map(network.reading, (reason = "the change feed did not catch up within 2 s") => behind(reason))
      })
  ).pipe(
    Effect.catchTag("StoreUnavailable", (error) =>
      Effect.succeed<FeedState>(
        error instanceof UpdateHeld ? { _tag: "Held", reason: error.reason } : behind(error.message)
      ))
  )

const behind = (reason: string): FeedState => ({ _tag: "Behind", reason })

/** Reason why this process has not read all changes; undefined if it has. */
export const notReadyReason = (network: Network["Service"]): Effect.Effect<string | undefined> =>
  Effect.map(feedState(network), (state) => state._tag === "Behind" ? state.reason : undefined)

/** Reason why a login or a write would fail; undefined if both would succeed. */
export const notServingReason = (
  network: Network["Service"],
  writeCheck: WriteCheck["Service"]
): Effect.Effect<string | undefined> =>
  Effect.flatMap(notReadyReason(network), (reason) =>
    reason === undefined
      ? writeCheck.problem.pipe(
        Effect.catchTag("StoreUnavailable", ({ message }) => Effect.succeed(message)),
        Effect.timeoutOrElse({
          duration: catchUpTimeout,
          orElse: () => Effect.succeed("the database did not answer within 2 s")
        })
      )
      : Effect.succeed(reason))
