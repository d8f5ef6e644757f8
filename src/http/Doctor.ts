/** /api/doctor */
import { Network } from "#feed/Network.ts"
import { Api } from "#schema/api.ts"
import { Doctor, markState } from "#upkeep/Doctor.ts"
import { fine, found } from "#upkeep/findings.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { problemOf } from "./problems.ts"

/** The same patience as that of /readyz. */
const patience = "2 seconds"

export const layer = HttpApiBuilder.group(
  Api,
  "doctor",
  Effect.fnUntraced(function*(handlers) {
    const network = yield* Network
    const doctor = yield* Doctor
    const mark = yield* markState
    const feed = network.catchUp.pipe(
      Effect.as(fine("feed", "all that was committed is read")),
      Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.succeed(behind("it is not caught up in time")) }),
      Effect.catchTag("StoreUnavailable", ({ message }) => Effect.succeed(behind(message)))
    )
    return handlers.handle("get", () =>
      Effect.gen(function*() {
        const findings = [yield* feed]
        const leftOut = yield* network.leftOut
        return yield* doctor.examine({
          findings,
          unreadable: leftOut.map(({ message }) => message),
          mark: yield* mark
        })
      }).pipe(Effect.mapError(problemOf)))
  })
)

const behind = (reason: string) =>
  found("feed", "fail", [
    `this process does not follow the database: ${reason}`,
    "changes are committed, and reach no client",
    "GET /api/network says what is held back; else see to the database"
  ])
