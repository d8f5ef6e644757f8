/** Authenticates the admin token of each request and checks the role that the endpoint requires. */
import { AdminTokens } from "#services/AdminTokens.ts"
import { currentLimits } from "#ingress/connectionLimits.ts"
import { Quota } from "#rateLimit/Quota.ts"
import { Authorization, RequiredRole } from "#schema/apiParts.ts"
import * as Problem from "#schema/problems.ts"
import { Operator, roleIncludes } from "#schema/adminTokens.ts"
import { actingAs, AuditActor } from "#store/AuditActor.ts"
import { Context, Effect, Layer, Option } from "effect"

const unauthorized = () =>
  new Problem.Unauthorized({ detail: "missing or invalid admin token; send `Authorization: Bearer <token>`" })

/** Stands for the id of the token of the settings, which has none. */
const bootstrap = "bootstrap"

const tooManyRequests = ({ limits: { perHolder } }: Quota) =>
  new Problem.TooManyRequests({
    detail: `this admin token has too many requests in progress (at most ${perHolder} for one token); retry later`
  })

export const layer = Layer.effect(
  Authorization,
  Effect.gen(function*() {
    const tokens = yield* AdminTokens
    const requests = new Quota((yield* currentLimits).api.places)
    return Authorization.of({
      bearer: (handler, { credential, endpoint }) =>
        Effect.gen(function*() {
          const { address } = yield* AuditActor
          const operator = yield* tokens.authenticate(credential, address).pipe(Effect.mapError(problem))
          const { id, name, role } = operator.self
          const release = requests.tryAcquire(id ?? bootstrap, { mayUseReserve: role === "admin" })
          if (release === undefined) return yield* tooManyRequests(requests)
          yield* Effect.addFinalizer(() => Effect.sync(release))
          const needed = Option.getOrElse(Context.getOption(endpoint.annotations, RequiredRole), () => "admin" as const)
          if (needed !== "anyone" && !roleIncludes(role, needed)) {
            return yield* new Problem.RoleTooLow({
              detail: `this endpoint needs the role ${needed}, but the token has the role ${role}`,
              needed,
              held: role
            })
          }
          return yield* handler.pipe(
            Effect.provideService(Operator, operator),
            id === null ? actingAs("admin", address) : actingAs(`token:${id}`, address, name),
            Effect.raceFirst(Effect.andThen(operator.invalidated, Effect.suspend(() => Effect.fail(unauthorized()))))
          )
        })
    })
  })
)

function problem(error: Effect.Error<ReturnType<AdminTokens["Service"]["authenticate"]>>) {
  switch (error._tag) {
    case "InvalidToken":
      return unauthorized()
    case "TooManyFailures":
      return new Problem.TooManyFailures({ detail: error.message })
    case "StoreUnavailable":
      return new Problem.StoreUnavailable({ detail: error.message })
  }
}
