/** Re-encrypts all stored values with the writing key, in small batches. */
import type { Cipher } from "#crypto/Cipher.ts"
import { Effect, Result, Schema } from "effect"
import type { SqlClient } from "effect/sql"
import { transaction, withStoreErrors } from "#store/sql.ts"
import { type EncryptedColumn, encryptedColumns } from "./encryptedColumns.ts"

/** Values per transaction. Small, so that no writer waits long for a row lock. */
const batchSize = 200

/** Rows per query, because a query over the whole log would exceed the statement timeout. */
const windowSize = 2_000

/** Pause between two batches, which leaves time for other work of the database and of this process. */
const batchPause = "10 millis"

interface Source {
  readonly table: EncryptedColumn["table"] | "changes"
  readonly key: { readonly column: string; readonly type: "text" | "bigint"; readonly first: string }
  /** SQL with `t` as the row: the table, column and row of a value, which its encryption binds. */
  readonly location: string
  /** SQL with `t` as the row: the encrypted value. */
  readonly value: string
  /** SQL: the assignment of the new value `v.new`. */
  readonly set: string
}

const columnSource = ({ column, key, table }: EncryptedColumn): Source => ({
  table,
  key: { column: key, type: "text", first: "" },
  location: `'${table}' as "table", '${column}' as "column", t.${key} as "row"`,
  value: `t.${column}`,
  set: `${column} = v.new`
})

/** Rows come before the log. A change that is logged in between has the image of a row, which has the new key already. */
const sources: ReadonlyArray<Source> = [
  ...encryptedColumns.map(columnSource),
  {
    table: "changes",
    key: { column: "revision", type: "bigint", first: "0" },
    location: `t.entity || 's' as "table", t.entity_id as "row",
      case t.entity when 'certificate' then 'private_key' else 'wireguard_private_key' end as "column"`,
    value: `coalesce(t.row_image ->> 'wireguard_private_key', t.row_image ->> 'private_key')`,
    set: `row_image = jsonb_set(t.row_image, array[v."column"], to_jsonb(v.new))`
  }
]

/** The result of one pass over all values. */
export interface ReEncryptionPass {
  readonly changed: number
  /** Values that another transaction has locked or changed. */
  readonly skipped: number
  /** Values that are damaged, or encrypted with a key that this process does not have. They stay unchanged. */
  readonly unreadable: number
}

/** One pass over all values. Each batch is one transaction, so that an interrupted pass keeps its progress. */
export const reEncryptAll = Effect.fn("reEncryptAll")(function*(sql: SqlClient.SqlClient, cipher: Cipher) {
  const pass = { changed: 0, skipped: 0, unreadable: 0 }
  for (const source of sources) {
    for (let after: string | null = source.key.first; after !== null;) {
      const { stale, upTo }: typeof Window.Type = yield* readStale(sql, source, cipher.keyId, after)
      const reEncryptedValues = stale.flatMap((value) =>
        Result.getOrElse(Result.map(reEncrypted(cipher, value), (one) => [one]), () => [])
      )
      const changed = reEncryptedValues.length === 0 ? 0 : yield* replaceValues(sql, source, reEncryptedValues)
      pass.changed += changed
      pass.skipped += reEncryptedValues.length - changed
      pass.unreadable += stale.length - reEncryptedValues.length
      after = stale.length === batchSize ? stale.at(-1)?.key ?? null : upTo
      if (changed > 0) yield* Effect.sleep(batchPause)
    }
  }
  return pass satisfies ReEncryptionPass
})

const Stale = Schema.Struct({
  key: Schema.String,
  table: Schema.String,
  column: Schema.String,
  row: Schema.String,
  value: Schema.String
})
const Window = Schema.Struct({ upTo: Schema.NullOr(Schema.String), stale: Schema.Array(Stale) })
const decodeWindow = Schema.decodeUnknownSync(Schema.Tuple([Window]))

/** The values after key `after` that other master keys encrypt, and the last key that the query has covered. */
const readStale = (sql: SqlClient.SqlClient, { key, location, table, value }: Source, writing: string, after: string) =>
  Effect.map(
    withStoreErrors(sql.unsafe(
      `with seen as materialized (select t.${key.column} as key, ${location}, ${value} as value from ${table} t
         where t.${key.column} > $1::text::${key.type} order by t.${key.column} limit ${windowSize}),
       stale as (select * from seen where value like 'v1.%' and split_part(value, '.', 2) <> $2
         order by key limit ${batchSize})
       select (select max(key)::text from seen) as "upTo", coalesce((select jsonb_agg(jsonb_build_object('key', s.key::text,
         'table', s."table", 'column', s."column", 'row', s."row", 'value', s.value) order by s.key) from stale s), '[]')
         as stale`,
      [after, writing]
    )),
    (rows) => decodeWindow(rows)[0]
  )

type ReEncrypted = typeof Stale.Type & { readonly newValue: string }

const reEncrypted = (cipher: Cipher, stale: typeof Stale.Type) => {
  const location = { table: stale.table, column: stale.column, row: stale.row }
  return Result.map(
    cipher.decrypt(stale.value, location),
    (plaintext): ReEncrypted => ({ ...stale, newValue: cipher.encrypt(plaintext, location) })
  )
}

/** Replaces values. Skips a value that has changed since it was read, and a locked row, which the next pass covers. */
const replaceValues = (
  sql: SqlClient.SqlClient,
  { key, set, table, value }: Source,
  values: ReadonlyArray<ReEncrypted>
) =>
  transaction(sql)(Effect.andThen(
    sql`select set_config('control.rotating', 'on', true)`,
    Effect.map(
      sql.unsafe(
        `with v as (select * from unnest($1::text[]::${key.type}[], $2::text[], $3::text[], $4::text[])
             as v (key, "column", old, new)),
           free as (select t.${key.column} as key from ${table} t join v on v.key = t.${key.column}
             where ${value} = v.old order by t.${key.column} for no key update of t skip locked)
         update ${table} t set ${set} from v join free on free.key = v.key where t.${key.column} = v.key returning 1`,
        [
          values.map((one) => one.key),
          values.map((one) => one.column),
          values.map((one) => one.value),
          values.map((one) => one.newValue)
        ]
      ),
      (rows) => rows.length
    )
  ))
