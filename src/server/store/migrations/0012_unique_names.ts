/** Migration 12: names of agents and of gateways are unique, without regard to case. */
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"

/** PostgreSQL without ICU compares letters by the locale of the database, which can be limited to ASCII. */
const createNameKey = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const icu =
    yield* sql`select from pg_collation where collname = 'und-x-icu' and collnamespace = 'pg_catalog'::regnamespace`
  const collation = icu.length > 0 ? ` collate "und-x-icu"` : ""
  yield* sql.unsafe(`create function control_name_key(name text) returns text language sql immutable as $$
    select lower(name${collation})
  $$`)
})

const kinds = [{ kind: "agent", table: "agents" }, { kind: "gateway", table: "gateways" }] as const

/** As the check of the column. */
const maxNameLength = 128

/** Renames every client whose name an older one of its kind has, for example `home` to `home-2`, and logs each change. */
const renameDuplicates = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  yield* sql`select set_config('control.actor', 'control', true)`
  for (const { kind, table } of kinds) {
    const rows = decodeRows(
      yield* sql`select id, name, control_name_key(name) as key from ${sql(table)} order by created_at, id`
    )
    for (const { id, name, newName } of newNames(rows)) {
      yield* sql`update ${sql(table)} set name = ${newName} where id = ${id}`
      yield* Effect.logWarning(
        `renamed ${kind} ${id} from ${JSON.stringify(name)} to ${JSON.stringify(newName)}, because names are unique now`
      )
    }
  }
  // PostgreSQL creates no index while triggers of the renamed rows are pending.
  yield* sql`set constraints all immediate`
  yield* sql`set constraints all deferred`
  yield* sql`select set_config('control.actor', '', true)`
})

/** Renames duplicates, which the audit records, and creates the unique indexes. */
export const makeNamesUnique = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  yield* renameDuplicates(sql)
  for (const { table } of kinds) {
    yield* sql.unsafe(`create unique index ${table}_name_taken on ${table} (control_name_key(name))`)
  }
})

/** The first schema version with the indexes. */
export const uniqueNamesVersion = 12

/** For a restore of an older backup, which `makeNamesUnique` must follow. */
export const dropNameIndexes = (sql: SqlClient.SqlClient) =>
  Effect.forEach(kinds, ({ table }) => sql.unsafe(`drop index ${table}_name_taken`), { discard: true })

interface NamedRow {
  readonly id: string
  readonly name: string
  readonly key: string
}

const decodeRows = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ id: Schema.String, name: Schema.String, key: Schema.String }))
)

/** The oldest row of each key keeps its name. No new name equals the name of another row. */
const newNames = (rows: ReadonlyArray<NamedRow>) => {
  const taken = new Set(rows.map(({ key }) => key))
  const holders = new Set<string>()
  const lastNumbers = new Map<string, number>()
  return rows.flatMap(({ id, key, name }) => {
    if (!holders.has(key)) {
      holders.add(key)
      return []
    }
    for (let number = (lastNumbers.get(key) ?? 1) + 1;; number += 1) {
      const suffix = `-${number}`
      const newName = [...name].slice(0, maxNameLength - suffix.length).join("") + suffix
      const newKey = newName.toLowerCase()
      if (taken.has(newKey)) continue
      taken.add(newKey)
      lastNumbers.set(key, number)
      return [{ id, name, newName }]
    }
  })
}

export const uniqueNames = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* createNameKey(sql)
  yield* makeNamesUnique(sql)
})
