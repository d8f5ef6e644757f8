/** Handlers of /api/audit. */
import { Api } from "#schema/api.ts"
import { defaultPageLimit } from "#schema/pagination.ts"
import { AuditStore } from "#store/AuditStore.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "audit",
  Effect.fnUntraced(function*(handlers) {
    const audit = yield* AuditStore
    return handlers.handle(
      "list",
      ({ query: { actor, cursor, entityId, entityType, limit, since, until } }) =>
        audit.list({ limit: limit ?? defaultPageLimit, before: cursor, entityType, entityId, actor, since, until })
          .pipe(
            Effect.mapError(problemOf)
          )
    )
  })
)
