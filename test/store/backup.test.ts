/** What is restored is what was backed up, and nobody keeps what the database has lost by it. */
import { Network } from "#feed/Network.ts"
import { makeCipher } from "#crypto/Cipher.ts"
import { Backup } from "#store/Backup.ts"
import { verifyBackup } from "#store/backupFile.ts"
import { backedUp, leftOut } from "#store/backupTables.ts"
import { schemaVersion } from "#store/Database.ts"
import { Restore } from "#store/Restore.ts"
import { newDatabase, TestDatabase } from "#support/database.ts"
import { makeServer } from "#support/server.ts"
import { join, joinV1, type TestClient } from "#support/TestClient.ts"
import { fromConfig, Viewer } from "#support/Viewer.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Option, Redacted, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { createHash, randomBytes } from "node:crypto"
import { readFile, writeFile } from "node:fs/promises"
import { join as joinPath } from "node:path"
import { gunzipSync, gzipSync } from "node:zlib"
import { temporaryDirectory } from "./temporary.ts"

const masterKey = Redacted.make(randomBytes(32).toString("base64"))
const cipher = makeCipher(masterKey)

const saved = Effect.fnUntraced(function*(path: string, backup: Backup["Service"]) {
  const chunks = yield* Stream.runCollect(backup.dump)
  yield* Effect.promise(() => writeFile(path, Buffer.concat(chunks)))
})

const on = (url: string) =>
  Layer.mergeAll(Restore.layer, Backup.layer).pipe(
    Layer.provideMerge(PgClient.layer({ url: Redacted.make(url), maxConnections: 2 }))
  )

const restored = (url: string, file: string, replace = true) =>
  Effect.flatMap(Restore, ({ restore }) => restore(file, cipher, { replace })).pipe(
    Effect.provide(on(url)),
    Effect.scoped
  )

const start = (url: string) =>
  makeServer({ databaseUrl: Option.some(Redacted.make(url)), masterKey: Option.some(masterKey) })

/** Every row of every table that is backed up. */
const rowsIn = (url: string) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* Effect.forEach(backedUp, ({ image, key, table }) =>
      sql.unsafe(
        `select ${image} as row from ${table} where ${
          table === "audit" ? "actor <> 'restore'" : "true"
        } order by ${key}`
      ))
    return rows
  }).pipe(Effect.provide(on(url)), Effect.scoped)

/** Takes what comes until the next `config`, and gives its view. */
const nextView = Effect.fnUntraced(function*(client: TestClient) {
  while (true) {
    const message = yield* client.next
    if (message.type === "config") return { view: fromConfig(message.data), ...message }
  }
})

const network = Effect.gen(function*() {
  const { url } = yield* newDatabase
  const server = yield* start(url)
  const agent = yield* server.newAgent
  const gateway = yield* server.newGateway
  yield* Effect.forEach([1, 2, 3], () => server.newTunnel(agent.id))
  const directory = yield* temporaryDirectory
  const file = joinPath(directory, "backup")
  return { url, server, agent, gateway, file, backup: Context.get(server.context, Backup) }
})

describe("a backup", () => {
  for (const lost of [1, 5, 500]) {
    it.live(
      `of ${lost} changes ago: no client of either level keeps what the database has lost`,
      () =>
        Effect.gen(function*() {
          const { agent, backup, file, gateway, server, url } = yield* network
          const { catchUp } = Context.get(server.context, Network)
          yield* saved(file, backup)
          const before = yield* rowsIn(url)
          yield* Effect.forEach(Array.from({ length: lost }), () => server.newTunnel(agent.id), { concurrency: 8 })
          yield* catchUp
          const plain = yield* join(server.wsPort, "gateway", gateway.apiKey)
          const v1 = yield* joinV1(server.wsPort, "agent", agent.apiKey)
          const full = yield* v1.expect("config")
          assert.lengthOf(plain.config.data["tunnels"], 3 + lost)

          const done = yield* restored(url, file)
          assert.deepStrictEqual(yield* rowsIn(url), before)
          const told = yield* nextView(v1)
          assert.lengthOf(Object.keys(told.view.tunnels), 3)
          assert.strictEqual(told.timeline, done.timeline)
          assert.isAtLeast(told.revision ?? 0, full.revision ?? 0)
          assert.lengthOf(Object.keys((yield* nextView(plain)).view.tunnels), 3)
          assert.strictEqual((yield* Effect.promise(() => server.operator.get("/readyz"))).status, 200)

          // The history goes on from there, and who resumes from the one that is gone gets everything.
          const viewer = new Viewer()
          const resumed = yield* joinV1(server.wsPort, "agent", agent.apiKey, {
            resume: { timeline: full.timeline, revision: full.revision }
          })
          viewer.take(yield* resumed.expect("config"))
          const made = yield* server.newTunnel(agent.id)
          viewer.take(yield* resumed.expect("tunnel_create"))
          assert.include(Object.keys(viewer.view?.tunnels ?? {}), made.id)
          assert.lengthOf(Object.keys(viewer.view?.tunnels ?? {}), 4)
        }),
      60_000
    )
  }

  it.live("is restored into an empty database, on which a server starts with all that was there", () =>
    Effect.gen(function*() {
      const { agent, backup, file, url } = yield* network
      yield* saved(file, backup)
      const before = yield* rowsIn(url)
      const other = yield* newDatabase
      yield* Effect.scoped(start(other.url))
      yield* restored(other.url, file, false)
      assert.deepStrictEqual(yield* rowsIn(other.url), before)
      const again = yield* start(other.url)
      const client = yield* join(again.wsPort, "agent", agent.apiKey)
      assert.lengthOf(client.config.data["tunnels"], 3)
      const { body } = yield* Effect.promise(() => again.operator.get("/api/audit?entityType=network"))
      assert.strictEqual(body.items[0].actor, "restore")
    }))

  it.live("replaces what is there only if that is said, and leaves everybody offline", () =>
    Effect.gen(function*() {
      const { agent, backup, file, server, url } = yield* network
      yield* join(server.wsPort, "agent", agent.apiKey)
      yield* saved(file, backup)
      const refused = yield* Effect.flip(restored(url, file, false))
      assert.strictEqual(refused._tag, "DatabaseNotEmpty")
      assert.include(refused.message, "1 agents, 1 gateways, 3 tunnels")
      const image = gunzipSync(yield* Effect.promise(() => readFile(file))).toString()
      assert.notInclude(image, "session_id")
      assert.notInclude(image, "\"status\"")
    }))

  it.live("holds every table, or says why not", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const tables = yield* sql<{ name: string }>`select table_name as name from information_schema.tables
        where table_schema = current_schema()`
      const known = [...backedUp.map(({ table }) => table), ...leftOut]
      assert.deepStrictEqual(tables.map(({ name }) => name).toSorted(), known.toSorted())
    }).pipe(Effect.provide(TestDatabase)))

  it.live("is of one moment although rows come and go while it is read", () =>
    Effect.gen(function*() {
      const { agent, backup, file, server } = yield* network
      const writing = yield* Effect.forkScoped(Effect.forever(Effect.suspend(() => server.newTunnel(agent.id))))
      yield* saved(file, backup)
      const { header, rows } = yield* verifyBackup(file)
      assert.isUndefined(writing.pollUnsafe())
      // Each change of the audit is one revision: as many rows as the counter says.
      assert.strictEqual(rows["audit"], header.revision)
    }))
})

describe("a file that is not what was written", () => {
  const whole = Effect.gen(function*() {
    const { backup, file, url } = yield* network
    yield* saved(file, backup)
    return { file, url, bytes: yield* Effect.promise(() => readFile(file)) }
  })

  it.live("is refused wherever a byte was changed, or is the same backup", () =>
    Effect.gen(function*() {
      const { bytes, file } = yield* whole
      const { sha256 } = yield* verifyBackup(file)
      let refused = 0
      for (let index = 0; index < bytes.length; index += index < 20 || index > bytes.length - 20 ? 1 : 7) {
        const altered = Buffer.from(bytes)
        altered[index] = (altered[index] ?? 0) ^ 0x55
        yield* Effect.promise(() => writeFile(file, altered))
        const read = yield* Effect.exit(verifyBackup(file))
        if (Exit.isFailure(read)) refused += 1
        else assert.strictEqual(read.value.sha256, sha256, `byte ${index}`)
      }
      assert.isAbove(refused, 100)
    }), 60_000)

  it.live("is refused wherever it was cut off, and where something follows it", () =>
    Effect.gen(function*() {
      const { bytes, file } = yield* whole
      for (const length of [0, 1, 9, 10, 11, bytes.length >> 1, bytes.length - 9, bytes.length - 8, bytes.length - 1]) {
        yield* Effect.promise(() => writeFile(file, bytes.subarray(0, length)))
        assert.strictEqual((yield* Effect.flip(verifyBackup(file)))._tag, "BackupUnusable", `${length} bytes`)
      }
      for (const more of [Buffer.from("x"), gzipSync("{}\n"), Buffer.alloc(512)]) {
        yield* Effect.promise(() => writeFile(file, Buffer.concat([bytes, more])))
        assert.strictEqual(
          (yield* Effect.flip(verifyBackup(file)))._tag,
          "BackupUnusable",
          `with ${more.length} bytes more`
        )
      }
    }))

  it.live("is refused by name before anything is touched", () =>
    Effect.gen(function*() {
      const { bytes, file, url } = yield* whole
      const before = yield* rowsIn(url)
      const lines = gunzipSync(bytes).toString().trimEnd().split("\n")
      const [header = "", ...rest] = lines
      const rows = rest.slice(0, -1)
      /** Written as a backup is, with a digest that is right. */
      const forged = (...text: ReadonlyArray<string>) => {
        const body = text.map((line) => `${line}\n`).join("")
        const counts: Record<string, number> = {}
        for (const line of text.slice(1)) {
          const { table } = JSON.parse(line)
          counts[table] = (counts[table] ?? 0) + 1
        }
        return `${body}${JSON.stringify({ rows: counts, sha256: createHash("sha256").update(body).digest("hex") })}\n`
      }
      const cases: ReadonlyArray<readonly [string, string]> = [
        [
          "newer Control",
          forged(header.replace(`"schema":${schemaVersion}`, `"schema":${schemaVersion + 1}`), ...rows)
        ],
        ["only format 1", forged(header.replace(`"version":1`, `"version":2`), ...rows)],
        ["master key 0123456789abcdef", forged(header.replace(cipher.keyId, "0123456789abcdef"), ...rows)],
        [
          "master key 0123456789abcdef",
          forged(header, ...rows.map((row) => row.replaceAll(cipher.keyId, "0123456789abcdef")))
        ],
        ["does not know", forged(header, `{"table":"strangers","row":{"id":1}}`)],
        [
          "a column strange",
          forged(
            header,
            ...rows.map((row) => row.replace(`"row": {`, `"row":{`).replace(`"row":{`, `"row":{"strange":1,`))
          )
        ],
        ["does not match", forged(header, ...rows).replace("agent 1", "agent 2")],
        ["no backup of Control", forged(`{"format":"other"}`)],
        ["cut off", `${[header, ...rows].join("\n")}\n`]
      ]
      for (const [reason, text] of cases) {
        yield* Effect.promise(() => writeFile(file, gzipSync(text)))
        const error = yield* Effect.flip(restored(url, file))
        assert.include(error.message, reason === "does not match" ? "do not match" : reason)
        assert.include(error.message, file)
      }
      assert.deepStrictEqual(yield* rowsIn(url), before)
    }))

  it.live("of an older version gets the defaults of what it does not know yet", () =>
    Effect.gen(function*() {
      const { bytes, file, url } = yield* whole
      const [header = "", ...rest] = gunzipSync(bytes).toString().trimEnd().split("\n")
      const rows = rest.slice(0, -1).map((line) => {
        const { row: { enabled: _, ...row }, table } = JSON.parse(line)
        return JSON.stringify({ table, row })
      })
      const body = [header.replace(`"schema":${schemaVersion}`, `"schema":1`), ...rows].map((line) => `${line}\n`).join(
        ""
      )
      const { rows: counts } = JSON.parse(rest.at(-1) ?? "")
      const footer = JSON.stringify({ rows: counts, sha256: createHash("sha256").update(body).digest("hex") })
      yield* Effect.promise(() => writeFile(file, gzipSync(`${body}${footer}\n`)))
      yield* restored(url, file)
      const tunnels = (yield* rowsIn(url))[2] as unknown as ReadonlyArray<{ row: { enabled: boolean } }>
      assert.deepStrictEqual(tunnels.map(({ row }) => row.enabled), [true, true, true])
    }))
})
