/** Who may ask: whoever has the admin token. */
import { sameSecret } from "#crypto/apiKeys.ts"
import { Authorization } from "#schema/apiParts.ts"
import { Unauthorized } from "#schema/problems.ts"
import { Secrets } from "#store/Secrets.ts"
import { Effect, Layer, Redacted } from "effect"

export const layer = Layer.effect(
  Authorization,
  Effect.gen(function*() {
    const { adminToken } = yield* Secrets
    return Authorization.of({
      bearer: (answer, { credential }) =>
        sameSecret(Redacted.value(credential), Redacted.value(adminToken))
          ? answer
          : Effect.fail(new Unauthorized({ detail: "send the admin token as `Authorization: Bearer <token>`" }))
    })
  })
)
