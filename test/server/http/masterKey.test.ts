/** /api/master-key: what an operator sees of the master keys, and how they are changed on one machine and on several. */
import { newDatabase } from "#support/database.ts"
import { makeServer } from "#support/server.ts"
import { bySql, newKey, over, rotate, serve, state, temporaryDirectory } from "#support/masterKeys.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Redacted, Scope } from "effect"
import { readFile, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"

const withGenerated = (url: string, dataDir: string) =>
  makeServer({ databaseUrl: Option.some(Redacted.make(url)), masterKey: Option.none(), dataDir })

const contentOf = (path: string) => Effect.promise(() => readFile(path, "utf8").catch(() => undefined))

describe("/api/master-key", () => {
  it.live("is changed only when every live process has the key, and names those that have not", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const [old, fresh] = [newKey(), newKey()]
      const scope = yield* Scope.make()
      yield* Scope.provide(serve(url, old), scope)
      const server = yield* serve(url, fresh, old)
      const refused = yield* rotate(server)
      assert.deepInclude(refused.body, { type: "urn:control:problem:key-not-everywhere", status: 409 })
      const [lacking] = yield* bySql(
        url,
        (sql) => sql`select process from readable_keys group by process having not bool_or(key_id = ${fresh.id})`
      )
      assert.include(refused.body.detail, String(lacking?.["process"]))
      assert.deepInclude(yield* state(server), { writing: old.id, isRotating: false })
      assert.strictEqual((yield* rotate(server, { keyId: "0123456789abcdef" })).status, 409)

      yield* Scope.close(scope, Exit.void)
      yield* server.newAgent
      const { body, status } = yield* rotate(server)
      assert.deepStrictEqual([status, body.writing], [200, fresh.id])
      const { counts } = yield* over(server)
      // A private key, in the agents and in the log.
      assert.deepStrictEqual(counts, { [fresh.id]: 2 })
    }))

  it.live("a process that has gone without a word counts for two minutes", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const [old, fresh] = [newKey(), newKey()]
      const server = yield* serve(url, old, fresh)
      const gone = (minutes: number) =>
        bySql(url, (sql) =>
          sql`insert into readable_keys values ('gone', ${old.id}, now() - make_interval(mins => ${minutes}))
            on conflict (process, key_id) do update set seen_at = excluded.seen_at`)
      yield* gone(1)
      assert.include((yield* rotate(server, { keyId: fresh.id })).body.detail, "gone")
      yield* gone(3)
      assert.strictEqual((yield* rotate(server, { keyId: fresh.id })).status, 200)
    }))

  it.live("has one entry in the audit for each change, and none for the same key once more", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const [old, fresh] = [newKey(), newKey()]
      const server = yield* serve(url, old, fresh)
      for (const keyId of [fresh.id, fresh.id, old.id]) {
        assert.strictEqual((yield* rotate(server, { keyId })).status, 200)
        yield* over(server)
      }
      const { body } = yield* Effect.promise(() => server.operator.get("/api/audit?entityType=master_key"))
      assert.deepStrictEqual(
        body.items.map(({ action, actor, entityId }: Record<string, string>) => [actor, action, entityId]),
        [["admin", "master_key.update", old.id], ["admin", "master_key.update", fresh.id]]
      )
    }))

  it.live("a key in the data directory is replaced by a new one; the old one stays until nothing is under it", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const dataDir = yield* temporaryDirectory
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(withGenerated(url, dataDir), scope)
      const agent = yield* server.newAgent
      const first = yield* contentOf(join(dataDir, "master-key"))
      const before = (yield* state(server)).writing

      // A lock on the agent's row keeps the rotation from its end.
      const body = yield* bySql(url, (sql) =>
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

      // The next process has both, ends it, and forgets the old one.
      const next = yield* withGenerated(url, dataDir)
      const { counts } = yield* over(next)
      assert.deepStrictEqual(Object.keys(counts), [body.writing])
      const { readable } = yield* Effect.repeat(state(next), { until: ({ readable }) => readable.length === 1 })
      assert.deepStrictEqual(readable, [body.writing])
      assert.isUndefined(yield* contentOf(join(dataDir, "master-key.old")))
    }))

  it.live("a key whose file was written before the database knew of it is the one that is used", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const dataDir = yield* temporaryDirectory
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(withGenerated(url, dataDir), scope)
      yield* server.newAgent
      yield* Scope.close(scope, Exit.void)
      // As if the process had been killed just before the switch.
      const file = join(dataDir, "master-key")
      const [old, fresh] = [yield* contentOf(file), newKey()]
      yield* Effect.promise(async () => {
        await writeFile(`${file}.old`, old ?? "", { mode: 0o600 })
        await writeFile(file, `${fresh.text}\n`)
      })
      const next = yield* withGenerated(url, dataDir)
      assert.notStrictEqual((yield* state(next)).writing, fresh.id)
      yield* next.newAgent
      assert.strictEqual((yield* rotate(next, { generate: true })).body.writing, fresh.id)
      assert.strictEqual(yield* contentOf(file), `${fresh.text}\n`)
      assert.deepStrictEqual((yield* over(next)).counts, { [fresh.id]: 4 })
    }))

  it.live("makes no key where the settings have it, or where others would lack it", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const given = yield* serve(url, newKey())
      const { body } = yield* rotate(given, { generate: true })
      assert.strictEqual(body.type, "urn:control:problem:key-not-generated")
      assert.include(body.detail, "reads its master key from the settings")
      assert.strictEqual((yield* rotate(given, { generate: true, keyId: "0123456789abcdef" })).status, 400)
      assert.strictEqual((yield* rotate(given, { keyId: "B" })).status, 400)

      const { url: shared } = yield* newDatabase
      const server = yield* withGenerated(shared, yield* temporaryDirectory)
      yield* bySql(shared, (sql) => sql`insert into readable_keys values ('another', 'a')`)
      const refused = yield* rotate(server, { generate: true })
      assert.include(refused.body.detail, "another")
      assert.strictEqual((yield* state(server)).readable.length, 1)
    }))
})
