/** Helpers for tests of the embedded database: clusters that are created once and copied, queries, processes. */
import { afterAll, beforeAll } from "@effect/vitest"
import { startEmbeddedPostgres } from "#store/postgres/EmbeddedPostgres.ts"
import { PgClient } from "@effect/sql-pg"
import { findProcesses } from "#store/postgres/processes.ts"
import { Effect, type Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { cpSync, mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { temporaryDirectory } from "#support/temporaryFiles.ts"

export const startPostgres = (dataDir: string, settings: Record<string, string> = {}) =>
  startEmbeddedPostgres({ dataDir, settings: { fsync: "off", ...settings } })

const template = realpathSync(mkdtempSync(join(tmpdir(), "control-test-")))
beforeAll(() => Effect.runPromise(Effect.scoped(startPostgres(template))))
afterAll(() => rmSync(template, { recursive: true }))

/** A data directory with a stopped cluster. Under root, root owns the copy, as after a restored file backup. */
export const copyCluster = Effect.tap(
  temporaryDirectory,
  (dataDir) =>
    Effect.sync(() => {
      for (const name of ["postgres", "postgres-password"]) {
        cpSync(join(template, name), join(dataDir, name), { recursive: true })
      }
    })
)

export const withSql = <A, E, R>(url: Redacted.Redacted, work: Effect.Effect<A, E, R>) =>
  Effect.provide(work, PgClient.layer({ url, maxConnections: 2 }), { local: true })

export const query = (statement: string) =>
  Effect.map(
    Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)),
    (rows) => rows.map((row) => Object.values(row))
  )

export const queryAt = (url: Redacted.Redacted, statement: string) => withSql(url, query(statement))

export const postmasterOf = (dataDir: string) =>
  Number(readFileSync(join(dataDir, "postgres", "postmaster.pid"), "utf8").split("\n")[0])

export const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** The processes of PostgreSQL in this data directory. */
export const processesOf = (dataDir: string) => findProcesses(join(dataDir, "postgres"), ["postgres"])
