/** What keeps the control plane well: its backup, and what is wrong with it. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Authorization, says, Validation } from "./apiParts.ts"
import { Timestamp } from "./ids.ts"
import * as Problem from "./problems.ts"

export class BackupGroup extends HttpApiGroup.make("backup").add(
  HttpApiEndpoint.get("get", "/api/backup", {
    success: HttpApiSchema.StreamUint8Array({ contentType: "application/gzip" })
  }).annotateMerge(says(
    "admin",
    "Make a backup",
    "Every row as of one moment, for `control restore`. What is encrypted stays so: the master key is not in it, and must " +
      "be kept apart. One that ends early lacks its last line, and is refused."
  ))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Backup" })) {}

export const Finding = Schema.Struct({
  check: Schema.String.annotate({ description: "What was looked at; stays the same between versions." }),
  severity: Schema.Literals(["ok", "note", "warn", "fail"]).annotate({
    description: "`fail`: something does not work now. `warn`: it will not, or may not. `note`: worth knowing."
  }),
  what: Schema.String.annotate({ description: "What was found." }),
  why: Schema.String.annotate({ description: "Why it matters; empty where nothing is wrong." }),
  remedy: Schema.String.annotate({ description: "What to do; empty where nothing is wrong." })
}).annotate({ identifier: "Finding", description: "What one look at the control plane has found." })
export type Finding = typeof Finding.Type

export const Diagnosis = Schema.Struct({
  at: Timestamp,
  version: Schema.String.annotate({ description: "The version of Control that has looked." }),
  findings: Schema.Array(Finding)
}).annotate({ identifier: "Diagnosis" })
export type Diagnosis = typeof Diagnosis.Type

export class DoctorGroup extends HttpApiGroup.make("doctor").add(
  HttpApiEndpoint.get("get", "/api/doctor", { success: Diagnosis, error: Problem.StoreUnavailable })
    .annotateMerge(
      says("read", "Say what is wrong", "Looks at the database, the clients and the settings of this process.")
    )
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Doctor" })) {}
