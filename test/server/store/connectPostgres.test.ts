/** Starts against real databases: reasons in PostgreSQL's words, at once if waiting does not help, and TLS as asked for. */
import { connectPostgres } from "#store/connectPostgres.ts"
import * as Database from "#store/Database.ts"
import { DataDirectory } from "#store/DataDirectory.ts"
import { newEmptyDatabase, quiet, testSettings } from "#support/testDatabase.ts"
import { databaseUrl, execute } from "#support/templateDatabase.ts"
import { assert, describe, it } from "@effect/vitest"
import { PgConnection } from "@effect/sql-pg"
import { Effect, Layer, Option, Redacted } from "effect"
import { inject } from "vitest"

const connect = (url: string, variables = {}) => connectPostgres(url, variables, "DATABASE_URL")
const failureOf = (url: string, variables = {}) => Effect.flip(connect(url, variables))

/** The URL with other parts. */
const changed = (url: string, change: (url: URL) => void): string => {
  const copy = new URL(url)
  change(copy)
  return copy.toString()
}

describe("connecting to a database", () => {
  it.live("sets what the code relies upon, whatever the database or role says", () =>
    Effect.gen(function*() {
      const { name, url } = yield* newEmptyDatabase
      for (
        const setting of [
          "default_transaction_isolation to serializable",
          "timezone to 'Asia/Tokyo'",
          "lock_timeout to 0",
          "idle_session_timeout to '1min'",
          "transaction_timeout to '1min'"
        ]
      ) {
        yield* execute(inject("serverUrl"), `alter database ${name} set ${setting}`)
      }
      const { config, pooling } = yield* connect(url)
      assert.strictEqual(pooling, "none")
      const connection = yield* PgConnection.make(config)
      const { rows } = yield* connection.query(`select current_setting('transaction_isolation') as isolation,
        current_setting('timezone') as zone, current_setting('lock_timeout') as lock, current_setting('client_encoding') as encoding,
        current_setting('idle_session_timeout') as idle, current_setting('transaction_timeout') as whole`)
      assert.deepStrictEqual(rows, [
        { isolation: "read committed", zone: "UTC", lock: "3s", encoding: "UTF8", idle: "0", whole: "0" }
      ])
    }).pipe(Effect.scoped))

  it.live("a database that cannot work is rejected in one sentence, and one that is read-only is waited for", () =>
    Effect.gen(function*() {
      const latin = "control_test_latin1"
      yield* Effect.acquireRelease(
        execute(inject("serverUrl"), `create database ${latin} encoding 'LATIN1' locale 'C' template template0`),
        () => Effect.orDie(execute(inject("serverUrl"), `drop database ${latin} with (force)`))
      )
      const encoding = yield* failureOf(databaseUrl(inject("serverUrl"), latin))
      assert.isTrue(encoding.isFinal)
      assert.include(encoding.reason, "its encoding is LATIN1, but names need UTF8")

      const { name, url } = yield* newEmptyDatabase
      yield* execute(inject("serverUrl"), `alter database ${name} set search_path to missing`)
      assert.include((yield* failureOf(url)).reason, "search_path names no schema")
      yield* execute(inject("serverUrl"), `alter database ${name} reset search_path`)
      yield* execute(inject("serverUrl"), `alter database ${name} set default_transaction_read_only to on`)
      const readOnly = yield* failureOf(url)
      assert.isFalse(readOnly.isFinal)
      assert.include(readOnly.reason, "it is read-only")
    }).pipe(Effect.scoped))

  it.live("a user who must not create tables gets PostgreSQL's words and the statement that grants it", () =>
    Effect.gen(function*() {
      const { name, url } = yield* newEmptyDatabase
      const role = `role_${name}`
      yield* Effect.acquireRelease(
        execute(inject("serverUrl"), `create role ${role} login password 'not-secret'`),
        () => Effect.orDie(execute(inject("serverUrl"), `drop role ${role}`))
      )
      const databaseUrl = changed(url, (copy) => {
        copy.username = role
        copy.password = "not-secret"
      })
      const start = Layer.build(Database.layer.pipe(
        Layer.provide(DataDirectory.layer),
        Layer.provide(testSettings({ databaseUrl: Option.some(Redacted.make(databaseUrl)) })),
        Layer.provide(quiet)
      ))
      const error = yield* Effect.flip(start)
      assert.include(error.message, "permission denied for schema public (SQLSTATE 42501); grant it: GRANT CREATE")
    }).pipe(Effect.scoped))

  it.live("a start without hope fails at once with PostgreSQL's words and the remedy; a refused connection is waited for", () =>
    Effect.gen(function*() {
      const { url } = yield* newEmptyDatabase
      const missing = yield* failureOf(databaseUrl(inject("serverUrl"), "no_such_database"))
      assert.isTrue(missing.isFinal)
      assert.include(
        missing.reason,
        "database \"no_such_database\" does not exist (SQLSTATE 3D000); create the database"
      )
      const role = yield* failureOf(changed(url, (copy) => {
        copy.username = "no_such_role"
      }))
      assert.isTrue(role.isFinal)
      assert.match(role.reason, /SQLSTATE 28/u)
      const options = yield* failureOf(changed(url, (copy) => copy.searchParams.set("options", "-c no_such_setting=1")))
      assert.include(options.reason, "correct the parameter options in DATABASE_URL")
      const refused = yield* failureOf("postgres://control@127.0.0.1:1/control")
      assert.isFalse(refused.isFinal)
      assert.include(refused.reason, "ECONNREFUSED 127.0.0.1:1")
    }).pipe(Effect.scoped))
})
