/** Rotation of the master key during operation loses nothing, and clients do not notice it. */
import { makeCipher } from "#crypto/Cipher.ts"
import * as BucketMap from "#network/BucketMap.ts"
import { Backup } from "#store/backup/Backup.ts"
import { Restore } from "#store/backup/Restore.ts"
import { PgClient } from "@effect/sql-pg"
import { Agents } from "#services/Agents.ts"
import { Network } from "#feed/Network.ts"
import { Revision } from "#schema/ids.ts"
import { ChangeLog } from "#store/ChangeLog.ts"
import { MasterKeyStore } from "#store/secrets/MasterKeyStore.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { issueCertificate } from "#support/certificates.ts"
import { join, joinV1 } from "#support/TestClient.ts"
import { viewFromConfig, ViewReplica } from "#support/ViewReplica.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Option, Redacted, Scope, Stream } from "effect"
import { writeFile } from "node:fs/promises"
import { join as joinPath } from "node:path"
import {
  awaitRotationEnd,
  type MasterKey,
  messagesUntilHeartbeatAck,
  newMasterKey,
  rotate,
  rotationState,
  rowsWithoutSecrets,
  type Server,
  startWithKeys,
  withSql
} from "#support/masterKeys.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"

/** A server that a test can stop before its end. */
const stoppableServer = Effect.fnUntraced(function*(...args: Parameters<typeof startWithKeys>) {
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  return { server: yield* Scope.provide(startWithKeys(...args), scope), end: Scope.close(scope, Exit.void) }
})

const createResources = Effect.fnUntraced(function*(server: Server, agents: number) {
  const service = Context.get(server.context, Agents)
  yield* Effect.forEach(Array.from({ length: agents }), (_, index) => service.create({ name: `filling ${index}` }), {
    concurrency: 8
  })
  const agent = yield* server.newAgent
  const gateway = yield* server.newGateway
  yield* server.newTunnel(agent.id, { domain: "a.example.com" })
  const pair = issueCertificate({ names: ["a.example.com"] })
  const put = yield* Effect.promise(() =>
    server.operator.put("/api/certificates/a.example.com", {
      certificate: pair.certificate,
      privateKey: pair.privateKey
    })
  )
  assert.strictEqual(put.status, 200, JSON.stringify(put.body))
  return { agent, gateway }
})

const snapshot = (server: Server) =>
  Effect.map(
    Context.get(server.context, ChangeLog).readSnapshot,
    ({ unreadable: leftOut, state }) => ({ leftOut, state })
  )

describe("a rotation of the master key", () => {
  it.live("no client notices the rotation, rows, revisions and times stay equal, and no value keeps the old key", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const [old, fresh] = [newMasterKey(), newMasterKey()]
      const first = yield* stoppableServer(url, old)
      const { agent, gateway } = yield* createResources(first.server, 230)
      const before = yield* snapshot(first.server)
      assert.lengthOf(before.leftOut, 0)
      yield* first.end

      const server = yield* startWithKeys(url, fresh, old)
      assert.deepInclude(yield* rotationState(server), {
        writing: old.id,
        readable: [old.id, fresh.id].toSorted(),
        isRotating: false
      })
      const other = yield* server.newGateway
      const plain = yield* join(server.wsPort, "agent", agent.apiKey)
      const gone = yield* joinV1(server.wsPort, "gateway", gateway.apiKey)
      const viewer = new ViewReplica()
      viewer.apply(yield* gone.expect("config"))
      gone.ws.close()
      yield* gone.closed
      const here = yield* joinV1(server.wsPort, "gateway", other.apiKey)
      yield* here.expect("config")
      const rows = yield* rowsWithoutSecrets(url)

      assert.strictEqual((yield* rotate(server)).status, 200)
      const { counts, writing } = yield* awaitRotationEnd(server)
      assert.strictEqual(writing, fresh.id)
      assert.deepStrictEqual(Object.keys(counts), [fresh.id])
      assert.deepStrictEqual(yield* rowsWithoutSecrets(url), rows)
      yield* Context.get(server.context, Network).catchUp
      assert.deepStrictEqual(yield* messagesUntilHeartbeatAck(here), [])
      yield* server.newTunnel(agent.id)
      for (const client of [here, plain]) yield* client.expect("tunnel_create")

      const back = yield* joinV1(server.wsPort, "gateway", gateway.apiKey, {
        resume: { timeline: viewer.timeline, revision: viewer.revision }
      })
      assert.isTrue(back.success.data["resumed"])
    }))

  it.live("the new key alone decrypts rows and log after the rotation", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const [old, fresh] = [newMasterKey(), newMasterKey()]
      const first = yield* stoppableServer(url, old)
      yield* createResources(first.server, 3)
      const before = yield* snapshot(first.server)
      yield* first.end
      const second = yield* stoppableServer(url, fresh, old)
      yield* rotate(second.server)
      yield* awaitRotationEnd(second.server)
      yield* second.end
      const server = yield* startWithKeys(url, fresh)
      assert.deepStrictEqual(yield* snapshot(server), before)
      const log = yield* Context.get(server.context, ChangeLog).readAfter(Revision.make(0))
      assert.lengthOf(log.unreadable, 0)
      assert.strictEqual(log.changes.length, before.state.revision)
    }))

  it.live("writes during the rotation reach the clients, and none of them keeps the old key", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const [old, fresh] = [newMasterKey(), newMasterKey()]
      const first = yield* stoppableServer(url, old)
      const { agent } = yield* createResources(first.server, 230)
      yield* first.end
      const server = yield* startWithKeys(url, fresh, old)
      const other = yield* startWithKeys(url, old, fresh)
      const { apiKey } = yield* server.newGateway
      const client = yield* joinV1(server.wsPort, "gateway", apiKey)
      const viewer = new ViewReplica()
      viewer.apply(yield* client.expect("config"))
      const write = (via: Server) =>
        Effect.gen(function*() {
          yield* via.newAgent
          const pair = issueCertificate({ names: ["a.example.com"] })
          yield* Effect.promise(async () => {
            const body = { certificate: pair.certificate, privateKey: pair.privateKey }
            const put = await via.operator.put("/api/certificates/a.example.com", body)
            assert.strictEqual(put.status, 200, JSON.stringify(put.body))
            const patch = await via.operator.patch(`/api/agents/${agent.id}`, { name: `named ${put.body.expiresAt}` })
            assert.strictEqual(patch.status, 200, JSON.stringify(patch.body))
          })
        })
      const done = yield* Deferred.make<void>()
      const writers = yield* Effect.forkChild(Effect.forEach([server, other], (via) =>
        Effect.gen(function*() {
          while (!(yield* Deferred.isDone(done))) yield* write(via)
          yield* write(via)
        }), { concurrency: 2 }))
      yield* rotate(server)
      yield* awaitRotationEnd(server)
      yield* Deferred.succeed(done, undefined)
      yield* Fiber.join(writers)
      assert.deepStrictEqual(Object.keys((yield* rotationState(server)).counts), [fresh.id])
      yield* Context.get(server.context, Network).catchUp
      for (const message of yield* messagesUntilHeartbeatAck(client)) viewer.apply(message)
      const again = yield* joinV1(other.wsPort, "gateway", apiKey)
      const { peers, certificates } = viewFromConfig((yield* again.expect("config")).data)
      assert.deepStrictEqual({ peers: viewer.view?.peers, certificates: viewer.view?.certificates }, {
        peers,
        certificates
      })
    }))

  it.live("a rotation that was stopped halfway is completed by the next process that has both keys", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const [old, fresh] = [newMasterKey(), newMasterKey()]
      const first = yield* stoppableServer(url, old)
      const { agent } = yield* createResources(first.server, 5)
      yield* first.end
      const stopped = yield* stoppableServer(url, fresh, old)
      const release = yield* Deferred.make<void>()
      const held = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(withSql(url, (sql) =>
        sql.withTransaction(Effect.gen(function*() {
          yield* sql`select from agents where id = ${agent.id} for update`
          yield* Deferred.succeed(held, undefined)
          yield* Deferred.await(release)
        }))))
      yield* Deferred.await(held)
      yield* rotate(stopped.server)
      const { isRotating } = yield* Effect.repeat(rotationState(stopped.server), {
        until: ({ counts }) => counts[old.id] === 1
      })
      assert.isTrue(isRotating)
      yield* stopped.end
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(holder)

      const refused = yield* Effect.flip(startWithKeys(url, fresh))
      assert.include(refused.message, `under master key ${old.id}, but this process has master key ${fresh.id}`)
      assert.include(refused.message, "CONTROL_MASTER_KEYS_OLD")
      assert.include((yield* Effect.flip(startWithKeys(url, old))).message, `encrypted under master key ${fresh.id}`)
      const { counts } = yield* awaitRotationEnd(yield* startWithKeys(url, old, fresh))
      assert.deepStrictEqual(Object.keys(counts), [fresh.id])
    }))

  it.live("one process at a time runs the rotation, and concurrent passes re-encrypt each value once", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const [old, fresh] = [newMasterKey(), newMasterKey()]
      const server = yield* startWithKeys(url, old, fresh)
      const other = yield* startWithKeys(url, fresh, old)
      yield* createResources(server, 20)
      const stores = [server, other].map(({ context }) => Context.get(context, MasterKeyStore))
      const [one, two] = stores as [typeof stores[0] & {}, typeof stores[0] & {}]
      let ranBoth = false
      const ran = yield* one.runExclusively(Effect.asVoid(Effect.gen(function*() {
        assert.isFalse(
          yield* two.runExclusively(Effect.sync(() => {
            ranBoth = true
          }))
        )
        yield* withSql(url, (sql) => sql`update control_meta set master_key_id = ${fresh.id}`)
        const total = Object.values(yield* one.countByKey).reduce((sum, count) => sum + count, 0)
        const passes = yield* Effect.all([one.reEncrypt, two.reEncrypt, one.reEncrypt, two.reEncrypt], {
          concurrency: "unbounded"
        })
        const last = yield* two.reEncrypt
        assert.strictEqual([...passes, last].reduce((sum, { changed }) => sum + changed, 0), total)
        assert.deepStrictEqual(yield* one.reEncrypt, { changed: 0, skipped: 0, unreadable: 0 })
      })))
      assert.isTrue(ran)
      assert.isFalse(ranBoth)
      assert.isTrue(yield* two.runExclusively(Effect.void))
    }))

  it.live("a backup under the old key can be restored after the rotation, and is re-encrypted", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const [old, fresh] = [newMasterKey(), newMasterKey()]
      const first = yield* stoppableServer(url, old)
      yield* createResources(first.server, 3)
      const before = yield* snapshot(first.server)
      const file = joinPath(yield* temporaryDirectory, "backup")
      const chunks = yield* Stream.runCollect(
        Context.get(first.server.context, Backup).dump(
          Option.some(makeCipher(Redacted.make(old.text)))
        )
      )
      yield* Effect.promise(() => writeFile(file, Buffer.concat(chunks)))
      yield* first.end
      const server = yield* startWithKeys(url, fresh, old)
      yield* rotate(server)
      yield* awaitRotationEnd(server)

      const restore = (key: MasterKey, ...others: ReadonlyArray<MasterKey>) =>
        Effect.flatMap(Restore, (store) => {
          const [own, ...rest] = [key, ...others].map(({ text }) => Redacted.make(text))
          return store.restore(file, makeCipher(own ?? Redacted.make(""), rest), {
            acceptUnsigned: false,
            replace: true
          })
        }).pipe(
          Effect.provide(Restore.layer.pipe(Layer.provide(PgClient.layer({ url: Redacted.make(url) })))),
          Effect.scoped
        )
      assert.include((yield* Effect.flip(restore(fresh))).message, old.id)
      yield* restore(fresh, old)
      const restored = yield* rotationState(server)
      assert.deepInclude(restored, { writing: fresh.id, isRotating: true })
      assert.isAbove(restored.counts[old.id], 0)
      const { counts } = yield* awaitRotationEnd(yield* startWithKeys(url, fresh, old))
      assert.deepStrictEqual(Object.keys(counts), [fresh.id])
      const after = yield* snapshot(yield* startWithKeys(url, fresh))
      assert.deepStrictEqual(BucketMap.values(after.state.agents), BucketMap.values(before.state.agents))
      assert.lengthOf(after.leftOut, 0)
    }))

  it.live("the rotation leaves unreadable values unchanged, and ends", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const [old, fresh] = [newMasterKey(), newMasterKey()]
      const server = yield* startWithKeys(url, fresh, old)
      const { agent } = yield* createResources(server, 2)
      yield* rotate(server, { keyId: old.id })
      yield* awaitRotationEnd(server)
      yield* withSql(url, (sql) =>
        sql`update agents set wireguard_private_key = reverse(wireguard_private_key) where id = ${agent.id}`)
      yield* withSql(url, (sql) =>
        sql`update gateways set wireguard_private_key =
          'v1.' || ${old.id} || '.AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA'`)
      yield* rotate(server)
      const { counts } = yield* awaitRotationEnd(server)
      // The row, and its image in the log.
      assert.strictEqual(counts[old.id], 2)
    }))
})
