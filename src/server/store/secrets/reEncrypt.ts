/** Every stored value, a few at a time, from whatever master key it is under to the one that is written under. */
import type { Cipher } from "#crypto/Cipher.ts"
import { Effect, Result, Schema } from "effect"
import type { SqlClient } from "effect/sql"
import { atEdge, transaction } from "#store/sql.ts"

/** Few enough that no writer waits long for a row. */
const batchSize = 200

/** How many rows are looked at in one statement: all of the log would take longer than one may. */
const windowSize = 2_000

/** Between two batches, so that the database and this process have time for others. */
const pause = "10 millis"

interface Source {
  readonly table: "agents" | "gateways" | "certificates" | "changes"
  readonly key: { readonly column: string; readonly type: "text" | "bigint"; readonly first: string }
  /** SQL: where a value belongs, and the value. `t` is the row. */
  readonly place: string
  readonly value: string
  /** SQL: what of the row takes the new value. `v` has the place and the values. */
  readonly set: string
}

const text = (column: string) => ({ column, type: "text", first: "" }) as const

const own = (table: Source["table"], column: string, key: string): Source => ({
  table,
  key: text(key),
  place: `'${table}' as "table", '${column}' as "column", t.${key} as "row"`,
  value: `t.${column}`,
  set: `${column} = v.new`
})

/** The rows before the log: what is logged meanwhile is the image of a row, and then under the new key already. */
const sources: ReadonlyArray<Source> = [
  own("agents", "wireguard_private_key", "id"),
  own("gateways", "wireguard_private_key", "id"),
  own("certificates", "private_key", "domain"),
  {
    table: "changes",
    key: { column: "revision", type: "bigint", first: "0" },
    place: `t.entity || 's' as "table", t.entity_id as "row",
      case t.entity when 'certificate' then 'private_key' else 'wireguard_private_key' end as "column"`,
    value: `coalesce(t.row_image ->> 'wireguard_private_key', t.row_image ->> 'private_key')`,
    set: `row_image = jsonb_set(t.row_image, array[v."column"], to_jsonb(v.new))`
  }
]

/** What one look at every value has come to. */
export interface Pass {
  readonly changed: number
  /** What somebody else has locked or changed meanwhile. */
  readonly busy: number
  /** What is damaged, or under a key that this process does not have: it stays as it is. */
  readonly unreadable: number
}

/** One look at every value, in batches that each are a transaction: whoever is stopped in between goes on where it was. */
export const reEncryptAll = Effect.fn("reEncryptAll")(function*(sql: SqlClient.SqlClient, cipher: Cipher) {
  const pass = { changed: 0, busy: 0, unreadable: 0 }
  for (const source of sources) {
    for (let after: string | null = source.key.first; after !== null;) {
      const { stale, upTo }: typeof Window.Type = yield* lookAt(sql, source, cipher.keyId, after)
      const fresh = stale.flatMap((value) =>
        Result.getOrElse(Result.map(renewed(cipher, value), (one) => [one]), () => [])
      )
      const changed = fresh.length === 0 ? 0 : yield* store(sql, source, fresh)
      pass.changed += changed
      pass.busy += fresh.length - changed
      pass.unreadable += stale.length - fresh.length
      after = stale.length === batchSize ? stale.at(-1)?.key ?? null : upTo
      if (changed > 0) yield* Effect.sleep(pause)
    }
  }
  return pass satisfies Pass
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

/** The values after a key that are not under the writing one, and how far that was looked. */
const lookAt = (sql: SqlClient.SqlClient, { key, place, table, value }: Source, writing: string, after: string) =>
  Effect.map(
    atEdge(sql.unsafe(
      `with seen as materialized (select t.${key.column} as key, ${place}, ${value} as value from ${table} t
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

type Renewed = typeof Stale.Type & { readonly fresh: string }

const renewed = (cipher: Cipher, stale: typeof Stale.Type) => {
  const place = { table: stale.table, column: stale.column, row: stale.row }
  return Result.map(
    cipher.decrypt(stale.value, place),
    (plaintext): Renewed => ({ ...stale, fresh: cipher.encrypt(plaintext, place) })
  )
}

/** A value that is no longer the one that was read is left to whoever has changed it; one that is locked, to the next look. */
const store = (sql: SqlClient.SqlClient, { key, set, table, value }: Source, values: ReadonlyArray<Renewed>) =>
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
          values.map((one) => one.fresh)
        ]
      ),
      (rows) => rows.length
    )
  ))
