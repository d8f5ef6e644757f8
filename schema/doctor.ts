/** Findings and report of the doctor, Control's diagnostics. */
import { Schema } from "effect"
import { Timestamp } from "./ids.ts"

export const Finding = Schema.Struct({
  check: Schema.String.annotate({ description: "Name of the check; stays the same between versions." }),
  severity: Schema.Literals(["ok", "note", "warn", "fail"]).annotate({
    description:
      "`fail`: something does not work now. `warn`: something will or may fail. `note`: information. `ok`: no problem."
  }),
  what: Schema.String.annotate({ description: "Observation." }),
  why: Schema.String.annotate({ description: "Consequence; empty if nothing is wrong." }),
  remedy: Schema.String.annotate({ description: "Recommended action; empty if nothing is wrong." })
}).annotate({ identifier: "Finding", description: "Result of one check." })
export type Finding = typeof Finding.Type

export const DoctorReport = Schema.Struct({
  at: Timestamp.annotate({ description: "Time of the checks. Requests within 2 seconds share one report." }),
  version: Schema.String.annotate({ description: "Version of Control that made the report." }),
  findings: Schema.Array(Finding)
}).annotate({ identifier: "Diagnosis" })
export type DoctorReport = typeof DoctorReport.Type
