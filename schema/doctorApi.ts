/** HTTP API endpoint for the doctor, Control's diagnostics. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, describeEndpoint, Validation } from "./apiParts.ts"
import { DoctorReport } from "./doctor.ts"
import * as Problem from "./problems.ts"

export class DoctorGroup extends HttpApiGroup.make("doctor").add(
  HttpApiEndpoint.get("get", "/api/doctor", { success: DoctorReport, error: Problem.StoreUnavailable })
    .annotateMerge(
      describeEndpoint(
        "read",
        "Run the doctor",
        "Checks the database, the clients and the settings of the answering node. Requests within 2 seconds share one report."
      )
    )
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Doctor" })) {}
