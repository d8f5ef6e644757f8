/** Helpers for tests of backups: a network, its backup, and the rows of a database. */
import { makeCipher } from "#crypto/Cipher.ts"
import { Backup } from "#store/backup/Backup.ts"
import { sign } from "#store/backup/signature.ts"
import { backupTables } from "#store/backup/tables.ts"
import { Restore } from "#store/backup/Restore.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { makeServer } from "#support/TestServer.ts"
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer, Option, Redacted, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { createHash, randomBytes } from "node:crypto"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { gunzipSync, gzipSync } from "node:zlib"
import { temporaryDirectory } from "#support/temporaryFiles.ts"

const masterKey = Redacted.make(randomBytes(32).toString("base64"))
export const cipher = makeCipher(masterKey)

export const saveBackup = Effect.fnUntraced(function*(path: string, backup: Backup["Service"]) {
  const chunks = yield* Stream.runCollect(backup.dump(Option.some(cipher)))
  yield* Effect.promise(() => writeFile(path, Buffer.concat(chunks)))
})

const on = (url: string) =>
  Layer.mergeAll(Restore.layer, Backup.layer).pipe(
    Layer.provideMerge(PgClient.layer({ url: Redacted.make(url), maxConnections: 2 }))
  )

export const restoreBackup = (url: string, file: string, { acceptUnsigned = false, replace = true } = {}) =>
  Effect.flatMap(Restore, ({ restore }) => restore(file, cipher, { acceptUnsigned, replace })).pipe(
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

/** A complete, unsigned backup of these lines: a header and rows. */
export const unsignedBackup = (...lines: ReadonlyArray<string>): Buffer => {
  const body = lines.map((line) => `${line}\n`).join("")
  const rows = new Map<string, number>()
  for (const line of lines.slice(1)) {
    const [, table = ""] = /^\{"table": ?"([^"]*)"/u.exec(line) ?? []
    rows.set(table, (rows.get(table) ?? 0) + 1)
  }
  const footer = JSON.stringify({
    rows: Object.fromEntries(rows),
    sha256: createHash("sha256").update(body).digest("hex")
  })
  return gzipSync(`${body}${footer}\n`)
}

/** The header and the rows of a backup. */
export const linesOfBackup = (bytes: Uint8Array): { readonly header: string; readonly rows: Array<string> } => {
  const [header = "", ...rest] = gunzipSync(bytes).toString().trimEnd().split("\n")
  return { header, rows: rest.slice(0, -1) }
}

/** Signs a file as a server with this cipher does. */
export const signed = (bytes: Uint8Array, signer = cipher) =>
  Effect.map(Stream.runCollect(sign(Stream.make(bytes), signer)), (parts) => Buffer.concat(parts))
