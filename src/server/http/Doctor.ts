/** Handlers of /api/doctor. */
import { Network } from "#feed/Network.ts"
import { Api } from "#schema/api.ts"
import { Doctor, highWaterMarkState } from "#doctor/Doctor.ts"
import { okFinding, problemFinding } from "#doctor/findings.ts"
import { Duration, Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { problemOf } from "./problems.ts"
import { type FeedState, feedState } from "./readiness.ts"
import { cachedFor } from "./cachedFor.ts"

/** One examination reads most of the database, and every `read` token may request it. */
const cacheDuration = Duration.seconds(2)

export const layer = HttpApiBuilder.group(
  Api,
  "doctor",
  Effect.fnUntraced(function*(handlers) {
    const network = yield* Network
    const doctor = yield* Doctor
    const markState = yield* highWaterMarkState
    const feedFinding = Effect.map(feedState(network), findingOf)
    const examine = Effect.gen(function*() {
      const findings = [yield* feedFinding]
      const unreadableRows = yield* network.unreadable
      return yield* doctor.examine({
        findings,
        unreadable: unreadableRows.map(({ message }) => message),
        highWaterMark: yield* markState
      })
    })
    const diagnosis = yield* cachedFor(examine, cacheDuration)
    return handlers.handle("get", () => Effect.mapError(diagnosis, problemOf))
  })
)

const findingOf = (state: FeedState) => {
  switch (state._tag) {
    case "Current":
      return okFinding("feed", "all committed changes are read")
    case "Held":
      return problemFinding("feed", "fail", [
        state.reason,
        "clients keep their views, and committed changes do not reach them",
        "restore the rows, or accept the loss with `control network accept`"
      ])
    case "Behind":
      return problemFinding("feed", "fail", [
        `this process is behind the database: ${state.reason}`,
        "committed changes do not reach clients",
        "check the database and the log of this process"
      ])
  }
}
