/** Compares the schema with the migrations by running them in a temporary, rolled-back schema. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { migrations } from "./Database.ts"

/** One sentence for each object that is missing, changed or disabled. Additional objects are ignored. */
export const compareSchema = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const found = yield* readCatalog(sql)
  const expected = yield* Effect.flip(sql.withTransaction(Effect.gen(function*() {
    const schema = sql(`control_doctor_${randomBytes(6).toString("hex")}`)
    yield* sql`create schema ${schema}`
    yield* sql`set local search_path to ${schema}`
    yield* Effect.forEach(Object.values(migrations), (migration) => migration, { discard: true })
    return yield* Effect.fail(new RolledBack(yield* readCatalog(sql)))
  }))).pipe(Effect.flatMap((end) => end instanceof RolledBack ? Effect.succeed(end.definitions) : Effect.fail(end)))
  return differences(expected, found)
})

/** Carries the result out of the transaction by way of a failure, because only a failure rolls the transaction back. */
class RolledBack {
  readonly _tag = "RolledBack"
  readonly definitions: Catalog
  constructor(definitions: Catalog) {
    this.definitions = definitions
  }
}

type Catalog = ReadonlyMap<string, string>

/** Definitions of columns, constraints, indexes, triggers and functions, by name. */
export const readCatalog = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql.unsafe<{ name: string; definition: string }>(catalogQuery),
    (rows): Catalog => new Map(rows.map(({ definition, name }) => [name, definition]))
  )

const differences = (expected: Catalog, found: Catalog): ReadonlyArray<string> =>
  [...expected].flatMap(([name, definition]) => {
    const actual = found.get(name)
    if (actual === definition) return []
    if (actual === undefined) return [`${name} is missing`]
    return [isDisabled(actual) && !isDisabled(definition) ? `${name} is disabled` : `${name} was changed`]
  })

const isDisabled = (definition: string): boolean => definition.endsWith(" [D]")

/**
 * PostgreSQL omits the name of the current schema from definitions, so equal objects of both schemas have equal
 * definitions.
 */
const catalogQuery = `
  select 'the column ' || c.relname || '.' || a.attname as name,
    concat_ws(' ', format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end, a.attidentity::text,
      pg_get_expr(d.adbin, d.adrelid)) as definition
  from pg_attribute a join pg_class c on c.oid = a.attrelid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
  union all
  select 'the constraint ' || conname, pg_get_constraintdef(oid) from pg_constraint
  where connamespace = current_schema()::regnamespace and contype in ('c', 'f', 'p', 'u')
  union all
  select 'the index ' || indexname, replace(indexdef, schemaname || '.', '') from pg_indexes
  where schemaname = current_schema()
  union all
  select 'the trigger ' || tgname || ' of ' || c.relname, pg_get_triggerdef(t.oid, true) || ' [' || tgenabled::text || ']'
  from pg_trigger t join pg_class c on c.oid = t.tgrelid
  where c.relnamespace = current_schema()::regnamespace and not tgisinternal
  union all
  select 'the function ' || proname || '(' || pg_get_function_identity_arguments(oid) || ')', prosrc from pg_proc
  where pronamespace = current_schema()::regnamespace`
