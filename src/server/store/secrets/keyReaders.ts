/** Registry of the master keys of each process. All must have a key before it becomes the writing key. */
import { newId } from "#crypto/identifiers.ts"
import { Effect, Schema } from "effect"
import type { SqlClient } from "effect/sql"
import { hostname } from "node:os"

/** A unique name of this process with its host and process id, for error messages. */
export const newProcessName = (): string => `${hostname()}:${process.pid}:${newId().slice(0, 8)}`

/** A process that has not registered for this time counts as stopped. */
const processTimeout = "2 minutes"

/** Registers the keys that this process can read. Repeat it well within `processTimeout`. */
export const registerKeyReader = (sql: SqlClient.SqlClient, name: string, keyIds: ReadonlySet<string>) =>
  sql`with gone as (delete from readable_keys where seen_at < now() - interval '1 hour'
      or (process = ${name} and key_id <> all (${[...keyIds]}::text[])))
    insert into readable_keys (process, key_id) select ${name}, unnest(${[...keyIds]}::text[])
    on conflict (process, key_id) do update set seen_at = now()`

/** Removes this process from the registry. */
export const unregisterKeyReader = (sql: SqlClient.SqlClient, name: string) =>
  sql`delete from readable_keys where process = ${name}`

/** The live processes, and whether each one can read this key. */
export const findKeyReaders = (sql: SqlClient.SqlClient, keyId: string) =>
  Effect.map(
    sql`select process, bool_or(key_id = ${keyId}) as reads from readable_keys
      where seen_at > now() - ${processTimeout}::interval group by process order by process`,
    decodeReaders
  )

/** The names of all live processes. */
export const listLiveProcesses = (sql: SqlClient.SqlClient) =>
  Effect.map(findKeyReaders(sql, ""), (readers) => readers.map(({ process }) => process))

const decodeReaders = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ process: Schema.String, reads: Schema.Boolean }))
)
