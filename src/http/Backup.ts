/** /api/backup */
import { Api } from "#schema/api.ts"
import { Backup } from "#store/Backup.ts"
import { DateTime, Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"

export const layer = HttpApiBuilder.group(
  Api,
  "backup",
  Effect.fnUntraced(function*(handlers) {
    const { dump } = yield* Backup
    return handlers.handleRaw("get", () =>
      Effect.map(DateTime.now, (now) =>
        HttpServerResponse.stream(dump, {
          contentType: "application/gzip",
          headers: { "content-disposition": `attachment; filename="control-${DateTime.formatIsoDateUtc(now)}.backup"` }
        })))
  })
)
