/** Who may ask: whoever has an admin token whose role the endpoint allows. */
import { AdminTokens } from "#services/AdminTokens.ts"
import { Authorization, RequiredRole } from "#schema/apiParts.ts"
import * as Problem from "#schema/problems.ts"
import { includes, Operator } from "#schema/adminTokens.ts"
import { actingAs, AuditActor } from "#store/AuditActor.ts"
import { Context, Effect, Layer, Option } from "effect"

const unauthorized = () =>
  new Problem.Unauthorized({ detail: "send an admin token as `Authorization: Bearer <token>`" })

export const layer = Layer.effect(
  Authorization,
  Effect.gen(function*() {
    const tokens = yield* AdminTokens
    return Authorization.of({
      bearer: (answer, { credential, endpoint }) =>
        Effect.gen(function*() {
          const { address } = yield* AuditActor
          const operator = yield* tokens.authenticate(credential, address).pipe(Effect.mapError(problem))
          const { id, name, role } = operator.self
          const needed = Option.getOrElse(Context.getOption(endpoint.annotations, RequiredRole), () => "admin" as const)
          if (needed !== "anyone" && !includes(role, needed)) {
            return yield* new Problem.RoleTooLow({
              detail: `this needs the role ${needed}, and the token has ${role}`,
              needed,
              held: role
            })
          }
          return yield* answer.pipe(
            Effect.provideService(Operator, operator),
            id === null ? actingAs("admin", address) : actingAs(`token:${id}`, address, name),
            Effect.raceFirst(Effect.andThen(operator.ended, Effect.suspend(() => Effect.fail(unauthorized()))))
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
