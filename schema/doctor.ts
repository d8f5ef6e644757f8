/** What the doctor says. */
import { Schema } from "effect"
import { Timestamp } from "./ids.ts"

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
  at: Timestamp.annotate({ description: "When it was looked; whoever asks within two seconds is told the same." }),
  version: Schema.String.annotate({ description: "The version of Control that has looked." }),
  findings: Schema.Array(Finding)
}).annotate({ identifier: "Diagnosis" })
export type Diagnosis = typeof Diagnosis.Type
