/** Databases and settings for servers under test. */
import { mintApiKey } from "#crypto/apiKeys.ts"
import { defaults, Settings, type SettingsValues } from "#server/Settings.ts"
import * as Database from "#store/Database.ts"
import { DataDirectory } from "#store/DataDirectory.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import { Effect, Layer, Logger, LogLevel, Option, Redacted, References, Schema } from "effect"
import { randomBytes } from "node:crypto"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inject } from "vitest"
import { secretScanner } from "./SecretScanner.ts"
import { collectingLogger } from "./collectOutput.ts"
import { copyTemplate, databaseUrl, execute } from "./templateDatabase.ts"

/** The admin token of every server under test. */
export const adminToken = Redacted.value(mintApiKey("admin").apiKey)

secretScanner.addSecret("admin token", adminToken)

/** A new database with the current schema and without rows, dropped with its connections when the scope ends. */
export const newDatabase = temporaryDatabase((name) =>
  copyTemplate(inject("serverUrl"), inject("templateDatabase"), name)
)

/** A new database without a schema, for tests of migrations; dropped with its connections when the scope ends. */
export const newEmptyDatabase = temporaryDatabase((name) => execute(inject("serverUrl"), `create database ${name}`))

/** Settings for a server under test: free ports, a new database, known secrets. `overrides` replaces single settings. */
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

/** Searches the logs of the code under test for secrets and hides them. Set `TEST_LOG_LEVEL`, for example to `Debug`, to see them. */
export const quiet = Layer.mergeAll(
  Logger.layer([collectingLogger, shown]),
  Layer.succeed(References.MinimumLogLevel, "Debug")
)

/** `SqlClient`, `PgClient`, `Settings`, `DataDirectory` and `Secrets` on a new database. */
export const TestDatabase = Secrets.layer.pipe(
  Layer.provideMerge(Database.layer),
  Layer.provideMerge(DataDirectory.layer),
  Layer.provideMerge(testSettings()),
  Layer.provideMerge(quiet)
)

function temporaryDatabase<E>(create: (name: string) => Effect.Effect<unknown, E>) {
  return Effect.acquireRelease(
    Effect.suspend(() => {
      const name = `control_test_${randomBytes(6).toString("hex")}`
      return Effect.as(create(name), { name, url: urlWithPassword(name) })
    }),
    ({ name }) => Effect.orDie(execute(inject("serverUrl"), `drop database if exists ${name} with (force)`))
  )
}

/** The secret scanner looks for the password. A server of `TEST_DATABASE_URL` without a password gets a random one. */
function urlWithPassword(database: string): string {
  const url = new URL(databaseUrl(inject("serverUrl"), database))
  if (url.password === "") url.password = randomBytes(18).toString("base64url")
  secretScanner.addSecret("database password", decodeURIComponent(url.password))
  return url.toString()
}

function newMasterKey(): string {
  const key = randomBytes(32).toString("base64")
  secretScanner.addSecret("master key", key)
  return key
}
