/** Handlers of /api/backup. */
import { Api } from "#schema/api.ts"
import { Operator } from "#schema/adminTokens.ts"
import { Backup, BackupFailed } from "#store/backup/Backup.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import { DateTime, Effect, Option, Stream } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"

export const layer = HttpApiBuilder.group(
  Api,
  "backup",
  Effect.fnUntraced(function*(handlers) {
    const { dump } = yield* Backup
    const { cipher } = yield* Secrets
    const revoked = Effect.fail(
      new BackupFailed({ reason: "the admin token was revoked, expired or got another role during the backup" })
    )
    return handlers.handleRaw(
      "get",
      () =>
        Effect.map(
          Effect.all([DateTime.now, Operator]),
          ([now, { invalidated: ended }]) =>
            HttpServerResponse.stream(Stream.interruptWhen(dump(Option.some(cipher)), Effect.andThen(ended, revoked)), {
              contentType: "application/gzip",
              headers: {
                "content-disposition": `attachment; filename="control-${DateTime.formatIsoDateUtc(now)}.backup"`
              }
            })
        )
    )
  })
)
