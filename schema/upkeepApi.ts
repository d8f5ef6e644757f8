/** What keeps the control plane well, as two parts of the API: its backup, and what is wrong with it. */
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Authorization, says, Validation } from "./apiParts.ts"
import { Diagnosis } from "./doctor.ts"
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

export class DoctorGroup extends HttpApiGroup.make("doctor").add(
  HttpApiEndpoint.get("get", "/api/doctor", { success: Diagnosis, error: Problem.StoreUnavailable })
    .annotateMerge(
      says(
        "read",
        "Say what is wrong",
        "Looks at the database, the clients and the settings of this process; again after two seconds, as `at` says."
      )
    )
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Doctor" })) {}
