/** Parameters of `DATABASE_URL` and libpq's variables: each one is honored or rejected with its name. */
import { readSettings } from "#server/Settings.ts"
import { parameters } from "#server/settings/postgresParameters.ts"
import { readPostgresTarget } from "#server/settings/postgresTarget.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"

const read = (url: string, variables = {}) => readPostgresTarget(url, variables, "DATABASE_URL")
const targetOf = (url: string, variables = {}) => Result.getOrThrow(read(url, variables))
const problemsOf = (url: string, variables = {}) => {
  const result = read(url, variables)
  return Result.isFailure(result) ? result.failure : []
}

describe("parameters of PostgreSQL connections", () => {
  it("TLS is used as the URL or a variable of libpq asks for it", () => {
    const modes: ReadonlyArray<readonly [string, Record<string, string>, string]> = [
      ["postgres://db/x", {}, "prefer"],
      ["postgres://db/x?ssl=true", {}, "require"],
      ["postgres://db/x?ssl=0", {}, "disable"],
      ["postgres://db/x?sslmode=require&sslrootcert=/ca.pem", {}, "verify-ca"],
      ["postgres://db/x?sslmode=require&sslrootcert=system", {}, "verify-full"],
      ["postgres://db/x", { PGSSLMODE: "require" }, "require"],
      ["postgres://db/x", { PGREQUIRESSL: "1" }, "require"],
      ["postgres://db/x", { PGSSLMODE: "require", PGSSLROOTCERT: "/ca.pem" }, "verify-ca"],
      ["postgres://db/x?sslmode=verify-full", { PGSSLMODE: "disable" }, "verify-full"],
      ["postgres://db/x?ssl=true", { PGSSLMODE: "disable" }, "require"]
    ]
    for (const [url, variables, mode] of modes) assert.strictEqual(targetOf(url, variables).tls.mode, mode, url)
  })

  it("the variables of libpq complete the URL, which takes precedence", () => {
    const target = targetOf("postgresql:///?user=%C3%A4&password=p%25w&application_name=one&options=-c%20geqo%3Doff", {
      PGHOST: "/run/postgresql",
      PGPORT: "6432",
      PGDATABASE: "control",
      PGUSER: "other",
      PGPASSWORD: "other",
      PGAPPNAME: "other",
      PGCONNECT_TIMEOUT: "7"
    })
    assert.deepInclude(target, {
      host: "/run/postgresql",
      port: 6432,
      database: "control",
      user: "ä",
      password: "p%w",
      applicationName: "one",
      options: "-c geqo=off",
      connectTimeoutSeconds: 7
    })
    assert.strictEqual(targetOf("postgres://[::1]:5433/x").host, "::1")
    assert.strictEqual(targetOf("postgres://%2Frun%2Fpostgresql/x").host, "/run/postgresql")
  })

  it("a parameter that cannot be honored is rejected with its name and the allowed values", () => {
    const rejected = [
      "channel_binding=require",
      "target_session_attrs=read-only",
      "service=prod",
      "sslmode=yes",
      "client_encoding=LATIN1",
      "connect_timeout=never",
      "pool_max=3",
      "host=a,b"
    ]
    for (const text of rejected) {
      const [problem, ...others] = problemsOf(`postgres://db/x?${text}`)
      assert.strictEqual(problem?.name, `parameter ${text.split("=")[0]} of DATABASE_URL`)
      assert.isAbove(problem?.allowed.length ?? 0, 5)
      assert.deepStrictEqual(others, [])
    }
    assert.include(problemsOf("postgres://a:1,b:2/x")[0]?.allowed, "for several servers")
    assert.include(problemsOf("postgres://u:100%sure@db/x")[0]?.allowed, "%25 for % in its password")
    assert.include(problemsOf("postgres://u:a#b@db/x")[0]?.allowed, "%23 for #")
    assert.deepInclude(problemsOf("postgres://db/x?sslmode=disable&ssl=true")[0], {
      name: "parameter ssl of DATABASE_URL",
      allowed: "removed, because parameter sslmode of DATABASE_URL is disable"
    })
  })

  it("every variable of libpq with an invalid value is rejected with its name", () => {
    for (const { accepts, variable } of Object.values(parameters)) {
      if (variable === undefined || accepts("\u0001,@")) continue
      assert.deepInclude(problemsOf("postgres://", { [variable]: "\u0001,@" }).map(({ name }) => name), variable)
    }
  })

  it.effect("settings reject variables that name a server for the embedded database, and never quote a password", () =>
    Effect.gen(function*() {
      const embedded = yield* Effect.flip(readSettings({ PGHOST: "db.example.com" }, false))
      assert.include(embedded.message, "PGHOST must be unset if DATABASE_URL is unset")
      const invalid = yield* Effect.flip(readSettings({ DATABASE_URL: "postgres://u:100%sure@db/x" }, false))
      assert.include(invalid.message, "DATABASE_URL must be a URL with %25 for % in its password")
      assert.notInclude(invalid.message, "sure")
    }))
})
