/** Helpers for tests of backups: a network, its backup, and the rows of a database. */
import { makeCipher } from "#crypto/Cipher.ts"
import { Backup } from "#store/backup/Backup.ts"
import { backupTables } from "#store/backup/tables.ts"
import { Restore } from "#store/backup/Restore.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { makeServer } from "#support/TestServer.ts"
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer, Option, Redacted, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { temporaryDirectory } from "#support/temporaryFiles.ts"

const masterKey = Redacted.make(randomBytes(32).toString("base64"))
export const cipher = makeCipher(masterKey)

export const saveBackup = Effect.fnUntraced(function*(path: string, backup: Backup["Service"]) {
  const chunks = yield* Stream.runCollect(backup.dump)
  yield* Effect.promise(() => writeFile(path, Buffer.concat(chunks)))
})

const on = (url: string) =>
  Layer.mergeAll(Restore.layer, Backup.layer).pipe(
    Layer.provideMerge(PgClient.layer({ url: Redacted.make(url), maxConnections: 2 }))
  )

export const restoreBackup = (url: string, file: string, replace = true) =>
  Effect.flatMap(Restore, ({ restore }) => restore(file, cipher, { replace })).pipe(
    Effect.provide(on(url)),
    Effect.scoped
  )

export const startServer = (url: string) =>
  makeServer({ databaseUrl: Option.some(Redacted.make(url)), masterKey: Option.some(masterKey) })

/** Every row of every table that a backup includes. */
export const readRows = (url: string) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* Effect.forEach(backupTables, ({ image, key, table }) =>
      sql.unsafe(
        `select ${image} as row from ${table} where ${
          table === "audit" ? "actor <> 'restore'" : "true"
        } order by ${key}`
      ))
    return rows
  }).pipe(Effect.provide(on(url)), Effect.scoped)

export const startNetwork = Effect.gen(function*() {
  const { url } = yield* newDatabase
  const server = yield* startServer(url)
  const agent = yield* server.newAgent
  const gateway = yield* server.newGateway
  yield* Effect.forEach([1, 2, 3], () => server.newTunnel(agent.id))
  const directory = yield* temporaryDirectory
  const file = join(directory, "backup")
  return { url, server, agent, gateway, file, backup: Context.get(server.context, Backup) }
})
