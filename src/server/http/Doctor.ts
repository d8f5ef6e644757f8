/** Handlers of /api/doctor. */
import { Network } from "#feed/Network.ts"
import { Api } from "#schema/api.ts"
import { Doctor, highWaterMarkState } from "#doctor/Doctor.ts"
import { okFinding, problemFinding } from "#doctor/findings.ts"
import { Duration, Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { problemOf } from "./problems.ts"
import { notReadyReason } from "./readiness.ts"
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
    const feedFinding = Effect.map(
      notReadyReason(network),
      (reason) => reason === undefined ? okFinding("feed", "all committed changes are read") : feedBehind(reason)
    )
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

const feedBehind = (reason: string) =>
  problemFinding("feed", "fail", [
    `this process is behind the database: ${reason}`,
    "committed changes do not reach clients",
    "run GET /api/network to see whether an update is held back; otherwise check the database"
  ])
