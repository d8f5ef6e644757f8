/** Backup, restore and doctor: with a server, without a server, and on a new machine. */
import { newDatabase } from "#support/testDatabase.ts"
import { startServer } from "#support/serverProcess.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { readFile, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { runIn } from "./run.ts"

describe("control backup, control restore and control doctor", () => {
  it.live(
    "backup, restore and doctor work with a server and without one, and a restored server has all rows",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* temporaryDirectory
        const file = join(yield* temporaryDirectory, "backup")
        const local = { CONTROL_DATA_DIR: dataDir, CONTROL_WS_HOST: "127.0.0.1" }
        const server = yield* startServer(local)
        const control = runIn(local)
        const { id } = JSON.parse((yield* control("agent", "create", "--name", "kept", "-o", "json")).stdout)

        const saved = yield* control("backup", file, "-o", "json")
        assert.strictEqual(saved.code, 0, saved.stderr)
        assert.include(saved.stderr, "it is complete, signed and readable with the master key of this machine")
        assert.include(saved.stderr, "keep a copy of the key, apart from the file")
        assert.strictEqual(JSON.parse(saved.stdout).agents, 1)
        assert.strictEqual((yield* Effect.promise(() => stat(file))).mode & 0o777, 0o600)
        const key = (yield* Effect.promise(() => readFile(join(dataDir, "master-key"), "utf8"))).trim()
        assert.notInclude((yield* Effect.promise(() => readFile(file))).toString("latin1"), key)
        const healthy = yield* control("doctor", "-o", "json")
        assert.strictEqual(healthy.code, 0, healthy.stdout)
        assert.include(healthy.stdout, "less than a day old")
        const busy = yield* control("restore", file, "--replace", "--yes")
        assert.strictEqual(busy.code, 1)
        assert.match(busy.stderr, /in use by process \d+ .*stop that process/u)

        yield* control("agent", "create", "--name", "later")
        server.signal("SIGTERM")
        yield* Effect.promise(() => server.exited)
        const offline = yield* control("doctor", "-o", "json")
        assert.strictEqual(offline.code, 0, offline.stdout)
        assert.include(offline.stdout, "no server was asked")
        const second = yield* control("backup", `${file}2`, "-o", "json")
        assert.strictEqual(JSON.parse(second.stdout).agents, 2, second.stderr)
        const notEmpty = yield* control("restore", file)
        assert.strictEqual(notEmpty.code, 1)
        assert.include(notEmpty.stderr, "it has 2 agents")
        const unconfirmed = yield* control("restore", file, "--replace")
        assert.strictEqual(unconfirmed.code, 2)
        assert.include(unconfirmed.stderr, "--yes")
        const restored = yield* control("restore", file, "--replace", "--yes", "-o", "json")
        assert.strictEqual(restored.code, 0, restored.stderr)

        yield* startServer(local)
        const after = runIn(local)
        const agents = JSON.parse((yield* after("agent", "list", "-o", "json")).stdout)
        assert.deepStrictEqual(agents.map((agent: { id: string }) => agent.id), [id])
      }),
    120_000
  )

  it.live(
    "restore brings all rows to a new machine that has only the master key",
    () =>
      Effect.gen(function*() {
        const [old, next] = [yield* temporaryDirectory, yield* temporaryDirectory]
        const file = join(old, "backup")
        const server = yield* startServer({ CONTROL_DATA_DIR: old, DATABASE_URL: (yield* newDatabase).url })
        const control = runIn({ CONTROL_DATA_DIR: old })
        yield* control("agent", "create", "--name", "kept")
        assert.strictEqual((yield* control("backup", file)).code, 0)

        const token = (yield* Effect.promise(() => readFile(join(old, "admin-token"), "utf8"))).trim()
        const elsewhere = runIn({
          CONTROL_API_URL: server.apiUrl,
          CONTROL_DATA_DIR: next,
          CONTROL_ADMIN_TOKEN: token
        })
        assert.include((yield* elsewhere("backup", `${file}2`)).stderr, "it is complete and signed. Private keys")
        const there = runIn({ CONTROL_DATA_DIR: next })
        const withoutKey = yield* there("restore", file)
        assert.strictEqual(withoutKey.code, 1)
        assert.include(withoutKey.stderr, "there is no master key")
        const wrong = runIn({ CONTROL_DATA_DIR: next, CONTROL_MASTER_KEY: Buffer.alloc(32, 7).toString("base64") })
        assert.match(
          (yield* wrong("restore", file)).stderr,
          /signed under master key [0-9a-f]{16}, but the one given is/u
        )
        const key = yield* Effect.promise(() => readFile(join(old, "master-key")))
        yield* Effect.promise(() => writeFile(join(next, "master-key"), key, { mode: 0o600 }))
        const done = yield* there("restore", file)
        assert.strictEqual(done.code, 0, done.stderr)
        yield* startServer({ CONTROL_DATA_DIR: next })
        const after = runIn({ CONTROL_DATA_DIR: next })
        assert.include((yield* after("agent", "list")).stdout, "kept")
      }),
    120_000
  )

  it.live(
    "backup keeps a file that a restore would refuse and fails, and says when it cannot sign a file",
    () =>
      Effect.gen(function*() {
        const [own, foreign] = [yield* temporaryDirectory, yield* temporaryDirectory]
        const { url } = yield* newDatabase
        const file = join(own, "backup")
        const server = yield* startServer({ CONTROL_DATA_DIR: own, DATABASE_URL: url })
        yield* runIn({ CONTROL_DATA_DIR: own })("agent", "create", "--name", "kept")
        server.signal("SIGTERM")
        yield* Effect.promise(() => server.exited)

        const withoutKey = runIn({ CONTROL_DATA_DIR: foreign, DATABASE_URL: url })
        const unsigned = yield* withoutKey("backup", file)
        assert.strictEqual(unsigned.code, 0, unsigned.stderr)
        assert.include(unsigned.stderr, "not signed, because this machine does not have the master key")
        const withKey = runIn({ CONTROL_DATA_DIR: own, DATABASE_URL: url })
        const refused = yield* withKey("restore", file, "--replace", "--yes")
        assert.strictEqual(refused.code, 1)
        assert.include(refused.stderr, "it is not signed")
        const accepted = yield* withKey("restore", file, "--replace", "--yes", "--accept-unsigned")
        assert.strictEqual(accepted.code, 0, accepted.stderr)

        yield* Effect.flatMap(
          SqlClient.SqlClient,
          (sql) => sql`update agents set wireguard_private_key = 'v1.aaaaaaaaaaaaaaaa.AAAAAAAAAAAAAAAA..'`
        ).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })))
        const unrestorable = yield* withKey("backup", file)
        assert.strictEqual(unrestorable.code, 1)
        assert.match(
          unrestorable.stderr,
          /saved .*backup, but a restore would refuse it: .*encrypted under master key aaaaaaaaaaaaaaaa/u
        )
        assert.strictEqual((yield* withKey("restore", file, "--replace", "--yes")).code, 1)
      }),
    60_000
  )

  it.live(
    "backup, restore and doctor explain a missing database, an invalid setting and a damaged file",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* temporaryDirectory
        const noDatabase = yield* runIn({ CONTROL_DATA_DIR: dataDir })("backup", join(dataDir, "b"))
        assert.strictEqual(noDatabase.code, 1)
        assert.include(noDatabase.stderr, "there is no database in")
        const invalid = yield* runIn({ CONTROL_DATA_DIR: dataDir, CONTROL_WS_PORT: "x" })("doctor")
        assert.strictEqual(invalid.code, 1)
        assert.match(invalid.stdout, /fail +settings +CONTROL_WS_PORT is "x"/u)
        const usage = yield* runIn({ CONTROL_DATA_DIR: dataDir, CONTROL_WS_PORT: "x" })("backup", join(dataDir, "b"))
        assert.strictEqual(usage.code, 2)
        yield* Effect.promise(() => writeFile(join(dataDir, "b"), "no backup"))
        yield* Effect.promise(() =>
          writeFile(join(dataDir, "master-key"), Buffer.alloc(32).toString("base64"), { mode: 0o600 })
        )
        const damaged = yield* runIn({ CONTROL_DATA_DIR: dataDir })("restore", join(dataDir, "b"))
        assert.strictEqual(damaged.code, 1)
        assert.include(damaged.stderr, "it is not signed")
        const accepted = yield* runIn({ CONTROL_DATA_DIR: dataDir })("restore", join(dataDir, "b"), "--accept-unsigned")
        assert.strictEqual(accepted.code, 1)
        assert.include(accepted.stderr, "the file is damaged, or no gzip file")
        const unreachable = yield* runIn({ CONTROL_DATA_DIR: dataDir, DATABASE_URL: "postgres://u@127.0.0.1:9/x" })(
          "backup",
          "x"
        )
        assert.strictEqual(unreachable.code, 5, unreachable.stderr)
      }),
    60_000
  )
})
