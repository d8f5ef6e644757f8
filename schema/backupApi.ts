/** HTTP API endpoint for backups. */
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Authorization, describeEndpoint, Validation } from "./apiParts.ts"

export class BackupGroup extends HttpApiGroup.make("backup").add(
  HttpApiEndpoint.get("get", "/api/backup", {
    success: HttpApiSchema.StreamUint8Array({ contentType: "application/gzip" })
  }).annotateMerge(describeEndpoint(
    "admin",
    "Make a backup",
    "Every row at one moment, for `control restore`. Encrypted values stay encrypted. The master key is not included: keep it " +
      "separately. A truncated backup lacks its last line, and `control restore` rejects it."
  ))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Backup" })) {}
