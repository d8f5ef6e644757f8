/** Which process can read which master keys, as the database has it: none is written under before all can read it. */
import { newId } from "#crypto/identifiers.ts"
import { Effect, Schema } from "effect"
import type { SqlClient } from "effect/sql"
import { hostname } from "node:os"

/** Names this process for people, and apart from all others. */
export const newProcessName = (): string => `${hostname()}:${process.pid}:${newId().slice(0, 8)}`

/** A process that has said nothing for so long is gone. */
const longestSilence = "2 minutes"

/** Says so of this process; to be repeated well within the longest silence. */
export const register = (sql: SqlClient.SqlClient, name: string, keyIds: ReadonlySet<string>) =>
  sql`with gone as (delete from readable_keys where seen_at < now() - interval '1 hour'
      or (process = ${name} and key_id <> all (${[...keyIds]}::text[])))
    insert into readable_keys (process, key_id) select ${name}, unnest(${[...keyIds]}::text[])
    on conflict (process, key_id) do update set seen_at = now()`

export const unregister = (sql: SqlClient.SqlClient, name: string) =>
  sql`delete from readable_keys where process = ${name}`

/** The live processes, each with whether it can read this key. */
export const readersOf = (sql: SqlClient.SqlClient, keyId: string) =>
  Effect.map(
    sql`select process, bool_or(key_id = ${keyId}) as reads from readable_keys
      where seen_at > now() - ${longestSilence}::interval group by process order by process`,
    decodeReaders
  )

export const liveProcesses = (sql: SqlClient.SqlClient) =>
  Effect.map(readersOf(sql, ""), (readers) => readers.map(({ process }) => process))

const decodeReaders = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ process: Schema.String, reads: Schema.Boolean }))
)
