/** Unique names of agents and gateways: the error for a taken name. */
import { ClientType } from "#schema/ids.ts"
import { Effect, Schema } from "effect"
import { type SqlClient, SqlError } from "effect/sql"
import { type StoreUnavailable, violatedConstraint, withStoreErrors } from "./sql.ts"

/** Another client of this type has the name. Letters that differ only by case are equal. */
export class NameTaken extends Schema.TaggedError<NameTaken>()("NameTaken", {
  type: ClientType,
  name: Schema.String,
  /** Id and name of the other client; null if it was deleted or renamed at the same moment. */
  holder: Schema.NullOr(Schema.Struct({ id: Schema.String, name: Schema.String }))
}) {
  override get message(): string {
    const holder = this.holder === null
      ? `another ${this.type}`
      : `${this.type} ${this.holder.name} (${this.holder.id})`
    return `the name ${this.name} belongs to ${holder}; choose another name`
  }
}

const tables = { agent: "agents", gateway: "gateways" } as const

/** Fails a write with `NameTaken` if it violates the unique index of names. Must be inside the transaction of the write. */
export const failOnTakenName =
  (type: ClientType, name: string | undefined) =>
  <A, E, R>(write: Effect.Effect<A, E, R>): Effect.Effect<A, E | NameTaken, R> =>
    Effect.catchIf(
      write,
      (error) => error instanceof SqlError.SqlError && violatedConstraint(error) === `${tables[type]}_name_taken`,
      () => Effect.fail(new NameTaken({ type, name: name ?? "", holder: null }))
    )

/** Adds the holder of the name to the error, after the transaction of the write has been rolled back. */
export const withHolder =
  (sql: SqlClient.SqlClient) =>
  <A, E, R>(write: Effect.Effect<A, E | NameTaken, R>): Effect.Effect<A, E | NameTaken | StoreUnavailable, R> =>
    Effect.catchIf(
      write,
      (error): error is NameTaken & E => error instanceof NameTaken,
      ({ name, type }) =>
        Effect.gen(function*() {
          const rows = yield* withStoreErrors(
            sql`select id, name from ${sql(tables[type])} where control_name_key(name) = control_name_key(${name})`
          )
          return yield* new NameTaken({ type, name, holder: decodeHolders(rows)[0] ?? null })
        })
    )

const decodeHolders = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ id: Schema.String, name: Schema.String })))
