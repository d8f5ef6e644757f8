/** A database of its own for each test file, on the server of this run. */
import { mintApiKey } from "#crypto/apiKeys.ts"
import { defaults, Settings, type SettingsValues } from "#server/Settings.ts"
import * as Database from "#store/Database.ts"
import { DataDirectory } from "#store/DataDirectory.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Logger, LogLevel, Option, Redacted, References, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inject } from "vitest"
import { canaries } from "./canaries.ts"
import { watchingLogger } from "./seen.ts"

/** The admin token of every server under test. */
export const adminToken = Redacted.value(mintApiKey("admin").apiKey)

canaries.plant("admin token", adminToken)

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
        masterKey: Option.some(Redacted.make(newMasterKey())),
        adminToken: Option.some(Redacted.make(adminToken)),
        dataDir,
        ...overrides
      })
    })
  )

const Level = Schema.Literals(["All", "Fatal", "Error", "Warn", "Info", "Debug", "Trace", "None"])
const shownLevel = Schema.decodeUnknownSync(Level)(process.env["TEST_LOG_LEVEL"] ?? "None")

const shown = Logger.make<unknown, void>((options) => {
  if (LogLevel.isGreaterThanOrEqualTo(options.logLevel, shownLevel)) Logger.defaultLogger.log(options)
})

/**
 * What the code under test says is searched for secrets, and not shown: set `TEST_LOG_LEVEL` (such as `Debug`) to see it.
 */
export const quiet = Layer.mergeAll(
  Logger.layer([watchingLogger, shown]),
  Layer.succeed(References.MinimumLogLevel, "Debug")
)

/** `SqlClient`, `PgClient`, `Settings`, `Directory` and `Secrets` on a new database with the schema. */
export const TestDatabase = Secrets.layer.pipe(
  Layer.provideMerge(Database.layer),
  Layer.provideMerge(DataDirectory.layer),
  Layer.provideMerge(testSettings()),
  Layer.provideMerge(quiet)
)

/** The embedded server lets in whoever opens its socket, and asks for no password: so there is one to watch for. */
function urlOf(database: string): string {
  const url = new URL(inject("serverUrl"))
  url.pathname = `/${database}`
  if (url.password === "") url.password = randomBytes(18).toString("base64url")
  canaries.plant("database password", decodeURIComponent(url.password))
  return url.toString()
}

function newMasterKey(): string {
  const key = randomBytes(32).toString("base64")
  canaries.plant("master key", key)
  return key
}

function onServer(statement: string) {
  return Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)).pipe(
    Effect.provide(PgClient.layer({ url: Redacted.make(inject("serverUrl")), maxConnections: 1 })),
    Effect.scoped
  )
}
