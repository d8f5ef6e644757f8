/** Decodes rows of any writer. Reports each unreadable row by name, without its values. */
import { fieldErrorsOf } from "#schema/fieldErrors.ts"
import { Effect, type Option, Result, Schema } from "effect"

/** A row that this version cannot decode, or whose secret the master keys of this process cannot decrypt. */
export class UnreadableRow extends Schema.TaggedError<UnreadableRow>()("UnreadableRow", {
  entity: Schema.String.annotate({ description: "The entity type in the row, which can be unknown to this version." }),
  id: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `cannot read ${this.entity} ${this.id}: ${this.reason}`
  }
}

type Row = Readonly<Record<string, unknown>>

/** Makes a reader of the rows of one entity. Its errors name the faulty fields only, because their values can be secrets. */
export const makeRowReader = <A>(
  schema: Schema.ConstraintDecoder<A>,
  identify: (row: Row) => { readonly entity: string; readonly id: unknown }
) => {
  const decode = Schema.decodeUnknownResult(schema, { errors: "all" })
  const read = (row: Row): Result.Result<A, UnreadableRow> =>
    Result.mapError(decode(row), ({ issue }) => {
      const { entity, id } = identify(row)
      const paths = [...new Set(fieldErrorsOf(issue).map(({ path }) => path))].join(", ")
      return new UnreadableRow({
        entity,
        id: String(id),
        reason: `this version does not understand ${paths}`
      })
    })
  const first = (rows: ReadonlyArray<Row>): Effect.Effect<Option.Option<A>, UnreadableRow> => {
    const [row] = rows
    return row === undefined ? Effect.succeedNone : Effect.asSome(Effect.fromResult(read(row)))
  }
  return {
    read,
    /** The first row; none without rows. */
    first,
    /** The first row that `change` returns; if that row is unreadable, the first row that `repair` returns. */
    firstOrRepaired: <E, R>(
      change: Effect.Effect<ReadonlyArray<Row>, E, R>,
      repair: Effect.Effect<ReadonlyArray<Row>, E, R>
    ) =>
      Effect.flatMap(
        change,
        (rows) => Effect.catchTag(first(rows), "UnreadableRow", () => Effect.flatMap(repair, first))
      )
  }
}
