/** Schema errors as texts for people, one for each invalid field. */
import { SchemaIssue } from "effect"

export interface FieldError {
  /** Path of the field, for example `tunnels.0.domain`; empty for the whole input. */
  readonly path: string
  readonly message: string
}

/** Errors of a failed decoding, in the decoder's order. */
export const fieldErrorsOf = (issue: SchemaIssue.Issue): ReadonlyArray<FieldError> =>
  format(issue).issues.map(({ message, path = [] }) => ({
    path: path.map((part) => String(typeof part === "object" ? part.key : part)).join("."),
    message
  }))

const format = SchemaIssue.makeFormatterStandardSchemaV1()
