/** /api/doctor */
import { Network } from "#feed/Network.ts"
import { Api } from "#schema/api.ts"
import { Doctor, markState } from "#doctor/Doctor.ts"
import { fine, found } from "#doctor/findings.ts"
import { Duration, Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { problemOf } from "./problems.ts"
import { reasonToWait } from "./readiness.ts"
import { cachedFor } from "./cachedFor.ts"

/** Anybody with a `read` token may ask, and each look reads most of the database. */
const keepFor = Duration.seconds(2)

export const layer = HttpApiBuilder.group(
  Api,
  "doctor",
  Effect.fnUntraced(function*(handlers) {
    const network = yield* Network
    const doctor = yield* Doctor
    const mark = yield* markState
    const feed = Effect.map(
      reasonToWait(network),
      (reason) => reason === undefined ? fine("feed", "all that was committed is read") : behind(reason)
    )
    const examine = Effect.gen(function*() {
      const findings = [yield* feed]
      const leftOut = yield* network.leftOut
      return yield* doctor.examine({ findings, unreadable: leftOut.map(({ message }) => message), mark: yield* mark })
    })
    const diagnosis = yield* cachedFor(examine, keepFor)
    return handlers.handle("get", () => Effect.mapError(diagnosis, problemOf))
  })
)

const behind = (reason: string) =>
  found("feed", "fail", [
    `this process does not follow the database: ${reason}`,
    "changes are committed, and reach no client",
    "GET /api/network says what is held back; else see to the database"
  ])
