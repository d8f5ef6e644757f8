/** Rows that somebody wrote past Control: each is said by name, and hides no other. */
import { faultsOf } from "#schema/inputErrors.ts"
import { Effect, type Option, Result, Schema } from "effect"

/** Of another shape, or with a secret that is not under Control's key. */
export class UnreadableRow extends Schema.TaggedError<UnreadableRow>()("UnreadableRow", {
  entity: Schema.String.annotate({ description: "As the row says; one that this version does not know is possible." }),
  id: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.entity} ${this.id} cannot be read: ${this.reason}`
  }
}

type Row = Readonly<Record<string, unknown>>

/** How rows of one kind are read for operators. The reason tells places alone: what is there may be a secret. */
export const readerOf = <A>(
  schema: Schema.ConstraintDecoder<A>,
  nameOf: (row: Row) => { readonly entity: string; readonly id: unknown }
) => {
  const decode = Schema.decodeUnknownResult(schema, { errors: "all" })
  const read = (row: Row): Result.Result<A, UnreadableRow> =>
    Result.mapError(decode(row), ({ issue }) => {
      const { entity, id } = nameOf(row)
      const places = [...new Set(faultsOf(issue).map(({ path }) => path))].join(", ")
      return new UnreadableRow({
        entity,
        id: String(id),
        reason: `it has what this version does not know in ${places}`
      })
    })
  const first = (rows: ReadonlyArray<Row>): Effect.Effect<Option.Option<A>, UnreadableRow> => {
    const [row] = rows
    return row === undefined ? Effect.succeedNone : Effect.asSome(Effect.fromResult(read(row)))
  }
  return {
    read,
    /** The first of these rows, if there is one. */
    first,
    /** What `change` gives; where that cannot be read, what `mend` gives then. */
    firstOf: <E, R>(change: Effect.Effect<ReadonlyArray<Row>, E, R>, mend: Effect.Effect<ReadonlyArray<Row>, E, R>) =>
      Effect.flatMap(change, (rows) => Effect.catchTag(first(rows), "UnreadableRow", () => Effect.flatMap(mend, first)))
  }
}
