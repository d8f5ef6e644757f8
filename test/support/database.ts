/** A database of its own for each test file, on the server of this run. */
import { defaults, Settings, type SettingsValues } from "#Settings.ts"
import * as Database from "#store/Database.ts"
import { Directory } from "#store/Directory.ts"
import { Secrets } from "#store/Secrets.ts"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Option, Redacted, References, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inject } from "vitest"

/** The admin token of every server under test. */
export const adminToken = "ctl_adm_test"

/** A new, empty database; dropped when the scope ends, whoever is still connected. */
export const newDatabase = Effect.acquireRelease(
  Effect.gen(function*() {
    const name = `control_test_${randomBytes(6).toString("hex")}`
    yield* onServer(`create database ${name}`)
    return { name, url: urlOf(name) }
  }),
  ({ name }) => Effect.orDie(onServer(`drop database if exists ${name} with (force)`))
)

/** Settings for a server under test: any free ports, a database of its own, secrets given. */
export const testSettings = (overrides: Partial<SettingsValues> = {}) =>
  Layer.effect(
    Settings,
    Effect.gen(function*() {
      const dataDir = yield* Effect.acquireRelease(
        Effect.promise(() => mkdtemp(join(tmpdir(), "control-data-"))),
        (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
      )
      const url = overrides.databaseUrl === undefined ? (yield* newDatabase).url : ""
      return Settings.of({
        ...defaults,
        wsHost: "127.0.0.1",
        wsPort: 0,
        apiHost: "127.0.0.1",
        apiPort: 0,
        databaseUrl: Option.some(Redacted.make(url)),
        masterKey: Option.some(Redacted.make(randomBytes(32).toString("base64"))),
        adminToken: Option.some(Redacted.make(adminToken)),
        dataDir,
        ...overrides
      })
    })
  )

const LogLevel = Schema.Literals(["All", "Fatal", "Error", "Warn", "Info", "Debug", "Trace", "None"])

/** Set `TEST_LOG_LEVEL` (such as `Debug`) to see what the code under test says. */
export const quiet = Layer.effect(
  References.MinimumLogLevel,
  Effect.orDie(Schema.decodeUnknownEffect(LogLevel)(process.env["TEST_LOG_LEVEL"] ?? "None"))
)

/** `SqlClient`, `PgClient`, `Settings`, `Directory` and `Secrets` on a new database with the schema. */
export const TestDatabase = Secrets.layer.pipe(
  Layer.provideMerge(Database.layer),
  Layer.provideMerge(Directory.layer),
  Layer.provideMerge(testSettings()),
  Layer.provideMerge(quiet)
)

function urlOf(database: string): string {
  const url = new URL(inject("serverUrl"))
  url.pathname = `/${database}`
  return url.toString()
}

function onServer(statement: string) {
  return Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)).pipe(
    Effect.provide(PgClient.layer({ url: Redacted.make(inject("serverUrl")), maxConnections: 1 })),
    Effect.scoped
  )
}
