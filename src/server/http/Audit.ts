/** Handlers of /api/audit. */
import { Api } from "#schema/api.ts"
import { defaultPageLimit } from "#schema/pagination.ts"
import { References } from "#services/References.ts"
import { AuditStore } from "#store/AuditStore.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "audit",
  Effect.fnUntraced(function*(handlers) {
    const audit = yield* AuditStore
    const references = yield* References
    return handlers.handle(
      "list",
      ({ query: { actor, cursor, entityId, entityType, limit, since, until } }) =>
        Effect.gen(function*() {
          const entityIds = entityId === undefined ? undefined : yield* references.audited(entityId)
          const request = { before: cursor, entityType, entityIds, actor, since, until }
          return yield* audit.list({ limit: limit ?? defaultPageLimit, ...request })
        }).pipe(Effect.mapError(problemOf))
    )
  })
)
