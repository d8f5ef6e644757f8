/** What is wrong with an input, in words for people. */
import { SchemaIssue } from "effect"

export interface Fault {
  /** Where, such as `tunnels.0.domain`; empty for the whole of it. */
  readonly path: string
  readonly message: string
}

/** The faults that decoding has found, in its order. */
export const faultsOf = (issue: SchemaIssue.Issue): ReadonlyArray<Fault> =>
  format(issue).issues.map(({ message, path = [] }) => ({
    path: path.map((part) => String(typeof part === "object" ? part.key : part)).join("."),
    message
  }))

const format = SchemaIssue.makeFormatterStandardSchemaV1()
