/** /api/master-key: rotation on one node and on several. */
import { newDatabase } from "#support/testDatabase.ts"
import { makeServer } from "#support/TestServer.ts"
import { awaitRotationEnd, newMasterKey, rotate, rotationState, startWithKeys, withSql } from "#support/masterKeys.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Redacted, Scope } from "effect"
import { readFile, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"

const serveGenerated = (url: string, dataDir: string) =>
  makeServer({ databaseUrl: Option.some(Redacted.make(url)), masterKey: Option.none(), dataDir })

const contentOf = (path: string) => Effect.promise(() => readFile(path, "utf8").catch(() => undefined))

describe("/api/master-key", () => {
  it.live("a rotation is rejected until every live process has the key, and names processes without it", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const [old, fresh] = [newMasterKey(), newMasterKey()]
      const scope = yield* Scope.make()
      yield* Scope.provide(startWithKeys(url, old), scope)
      const server = yield* startWithKeys(url, fresh, old)
      const rejected = yield* rotate(server)
      assert.deepInclude(rejected.body, { type: "urn:control:problem:key-not-everywhere", status: 409 })
      const [lacking] = yield* withSql(
        url,
        (sql) => sql`select process from readable_keys group by process having not bool_or(key_id = ${fresh.id})`
      )
      assert.include(rejected.body.detail, String(lacking?.["process"]))
      assert.deepInclude(yield* rotationState(server), { writing: old.id, isRotating: false })
      assert.strictEqual((yield* rotate(server, { keyId: "0123456789abcdef" })).status, 409)

      yield* Scope.close(scope, Exit.void)
      yield* server.newAgent
      const { body, status } = yield* rotate(server)
      assert.deepStrictEqual([status, body.writing], [200, fresh.id])
      const { counts } = yield* awaitRotationEnd(server)
      // The private key is stored in the agents table and in the change log.
      assert.deepStrictEqual(counts, { [fresh.id]: 2 })
    }))

  it.live("a crashed process blocks a rotation for 2 minutes", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const [old, fresh] = [newMasterKey(), newMasterKey()]
      const server = yield* startWithKeys(url, old, fresh)
      const gone = (minutes: number) =>
        withSql(url, (sql) =>
          sql`insert into readable_keys values ('gone', ${old.id}, now() - make_interval(mins => ${minutes}))
            on conflict (process, key_id) do update set seen_at = excluded.seen_at`)
      yield* gone(1)
      assert.include((yield* rotate(server, { keyId: fresh.id })).body.detail, "gone")
      yield* gone(3)
      assert.strictEqual((yield* rotate(server, { keyId: fresh.id })).status, 200)
    }))

  it.live("each rotation creates one audit entry, and a rotation to the same key creates none", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const [old, fresh] = [newMasterKey(), newMasterKey()]
      const server = yield* startWithKeys(url, old, fresh)
      for (const keyId of [fresh.id, fresh.id, old.id]) {
        assert.strictEqual((yield* rotate(server, { keyId })).status, 200)
        yield* awaitRotationEnd(server)
      }
      const { body } = yield* Effect.promise(() => server.operator.get("/api/audit?entityType=master_key"))
      assert.deepStrictEqual(
        body.items.map(({ action, actor, entityId }: Record<string, string>) => [actor, action, entityId]),
        [["admin", "master_key.update", old.id], ["admin", "master_key.update", fresh.id]]
      )
    }))

  it.live("a generated key replaces the key file, and the old file stays until no value needs it", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const dataDir = yield* temporaryDirectory
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(serveGenerated(url, dataDir), scope)
      const agent = yield* server.newAgent
      const first = yield* contentOf(join(dataDir, "master-key"))
      const before = (yield* rotationState(server)).writing

      // A lock on the agent's row keeps the rotation from finishing.
      const body = yield* withSql(url, (sql) =>
        sql.withTransaction(Effect.gen(function*() {
          yield* sql`select from agents where id = ${agent.id} for update`
          const { body, status } = yield* rotate(server, { generate: true })
          assert.strictEqual(status, 200, JSON.stringify(body))
          assert.strictEqual(yield* contentOf(join(dataDir, "master-key.old")), first)
          for (const name of ["master-key", "master-key.old"]) {
            const { mode } = yield* Effect.promise(() => stat(join(dataDir, name)))
            assert.strictEqual(mode & 0o777, 0o600)
          }
          const again = yield* rotate(server, { generate: true })
          assert.deepInclude(again.body, { type: "urn:control:problem:key-not-generated", status: 409 })
          yield* Scope.close(scope, Exit.void)
          return body
        })))
      assert.notStrictEqual(body.writing, before)
      assert.notStrictEqual(yield* contentOf(join(dataDir, "master-key")), first)

      // The next process has both keys, finishes the rotation, and removes the old key file.
      const next = yield* serveGenerated(url, dataDir)
      const { counts } = yield* awaitRotationEnd(next)
      assert.deepStrictEqual(Object.keys(counts), [body.writing])
      const { readable } = yield* Effect.repeat(rotationState(next), { until: ({ readable }) => readable.length === 1 })
      assert.deepStrictEqual(readable, [body.writing])
      assert.isUndefined(yield* contentOf(join(dataDir, "master-key.old")))
    }))

  it.live("a rotation uses the key file that an interrupted rotation has left", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const dataDir = yield* temporaryDirectory
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(serveGenerated(url, dataDir), scope)
      yield* server.newAgent
      yield* Scope.close(scope, Exit.void)
      // State after a crash just before the switch.
      const file = join(dataDir, "master-key")
      const [old, fresh] = [yield* contentOf(file), newMasterKey()]
      yield* Effect.promise(async () => {
        await writeFile(`${file}.old`, old ?? "", { mode: 0o600 })
        await writeFile(file, `${fresh.text}\n`)
      })
      const next = yield* serveGenerated(url, dataDir)
      assert.notStrictEqual((yield* rotationState(next)).writing, fresh.id)
      yield* next.newAgent
      assert.strictEqual((yield* rotate(next, { generate: true })).body.writing, fresh.id)
      assert.strictEqual(yield* contentOf(file), `${fresh.text}\n`)
      assert.deepStrictEqual((yield* awaitRotationEnd(next)).counts, { [fresh.id]: 4 })
    }))

  it.live("no key is generated if the key comes from the settings or another process would lack it", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const given = yield* startWithKeys(url, newMasterKey())
      const { body } = yield* rotate(given, { generate: true })
      assert.strictEqual(body.type, "urn:control:problem:key-not-generated")
      assert.include(body.detail, "reads its master key from the settings")
      assert.strictEqual((yield* rotate(given, { generate: true, keyId: "0123456789abcdef" })).status, 400)
      assert.strictEqual((yield* rotate(given, { keyId: "B" })).status, 400)

      const { url: shared } = yield* newDatabase
      const server = yield* serveGenerated(shared, yield* temporaryDirectory)
      yield* withSql(shared, (sql) => sql`insert into readable_keys values ('another', 'a')`)
      const rejected = yield* rotate(server, { generate: true })
      assert.include(rejected.body.detail, "another")
      assert.strictEqual((yield* rotationState(server)).readable.length, 1)
    }))
})
