/** A restore accepts only files that a holder of the master key has made, and rejects every other one cheaply. */
import { makeCipher } from "#crypto/Cipher.ts"
import { checkBackup } from "#store/backup/Restore.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { readFile, writeFile } from "node:fs/promises"
import { gunzipSync, gzipSync } from "node:zlib"
import {
  cipher,
  linesOfBackup,
  readRows,
  restoreBackup,
  saveBackup,
  signed,
  startNetwork,
  unsignedBackup
} from "./backups.ts"

const strangersToken = JSON.stringify({
  table: "admin_tokens",
  row: { id: "stranger", name: "stranger", role: "admin", hash: "0".repeat(64), created_by: "stranger" }
})

const savedBackup = Effect.gen(function*() {
  const network = yield* startNetwork
  yield* saveBackup(network.file, network.backup)
  const bytes = yield* Effect.promise(() => readFile(network.file))
  const restoreOf = (content: Uint8Array, options: { acceptUnsigned?: boolean } = {}) =>
    Effect.andThen(
      Effect.promise(() => writeFile(network.file, content)),
      restoreBackup(network.url, network.file, options)
    )
  return { ...network, ...linesOfBackup(bytes), bytes, restoreOf }
})

describe("the signature of a backup", () => {
  it.live("a file with an added admin token is rejected, and restores only with acceptUnsigned", () =>
    Effect.gen(function*() {
      const { bytes, header, restoreOf, rows, url } = yield* savedBackup
      const before = yield* readRows(url)
      const forged = unsignedBackup(header, ...rows, strangersToken)
      const signature = bytes.subarray(-66)
      const stranger = makeCipher(Redacted.make(Buffer.alloc(32, 3).toString("base64")))
      const cases: ReadonlyArray<readonly [string, Uint8Array]> = [
        ["add --accept-unsigned", forged],
        ["its signature with master key", Buffer.concat([forged, signature])],
        [`signed under master key ${stranger.keyId}`, yield* signed(forged, stranger)],
        ["its signature with master key", Buffer.concat([bytes.subarray(0, -67), Buffer.of(1), signature])],
        ["add --accept-unsigned", bytes.subarray(0, -1)]
      ]
      for (const [reason, content] of cases) {
        assert.include((yield* Effect.flip(restoreOf(content))).message, reason)
      }
      // A signature that does not match is rejected in any case.
      for (const [reason, content] of cases.slice(1, 4)) {
        assert.include((yield* Effect.flip(restoreOf(content, { acceptUnsigned: true }))).message, reason)
      }
      assert.deepStrictEqual(yield* readRows(url), before)
      assert.strictEqual((yield* restoreOf(forged, { acceptUnsigned: true })).rows["admin_tokens"], 1)
    }))

  it.live("a signed file is one gzip file for other programs", () =>
    Effect.gen(function*() {
      const { bytes } = yield* savedBackup
      assert.match(gunzipSync(bytes).toString(), /^\{"format":"control-backup".*"sha256":"[0-9a-f]{64}"\}\n$/su)
    }))

  it.live("a signed file restores however well its rows compress", () =>
    Effect.gen(function*() {
      const { backup, file, restoreOf, url } = yield* savedBackup
      yield* Effect.flatMap(
        SqlClient.SqlClient,
        (sql) =>
          sql`insert into certificates (domain, certificate, private_key, expires_at)
            select i || '.example.com', repeat('a', 1000000), '', now() from generate_series(1, 12) as i`
      ).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })))
      yield* saveBackup(file, backup)
      const bytes = yield* Effect.promise(() => readFile(file))
      assert.isAbove(gunzipSync(bytes).length / bytes.length, 100)
      assert.strictEqual((yield* restoreOf(bytes)).rows["certificates"], 12)
    }))

  it.live("numbers that break later writes are rejected, and the largest allowed ones do not break them", () =>
    Effect.gen(function*() {
      const { agent, header, restoreOf, rows, server } = yield* savedBackup
      const withNumber = (table: string, column: string, number: number | string) =>
        rows.map((row) =>
          row.startsWith(`{"table":"${table}"`)
            ? row.replace(new RegExp(`"${column}": ?\\d+`, "u"), `"${column}": ${number}`)
            : row
        )
      const withRevision = (revision: number | string) => header.replace(/"revision":\d+/u, `"revision":${revision}`)
      const maximum = 2 ** 52
      const cases: ReadonlyArray<readonly [string, Buffer]> = [
        ["its revision 9007199254740991", unsignedBackup(withRevision(2 ** 53 - 1), ...rows)],
        ["no backup of Control", unsignedBackup(withRevision(-1), ...rows)],
        ["no backup of Control", unsignedBackup(withRevision("1e400"), ...rows)],
        [
          "table audit has id 9223372036854776000",
          unsignedBackup(header, ...withNumber("audit", "id", "9223372036854775806"))
        ],
        [
          "table audit has revision 9007199254740992",
          unsignedBackup(header, ...withNumber("audit", "revision", 2 ** 53))
        ],
        ["table tunnels has revision", unsignedBackup(header, ...withNumber("tunnels", "revision", 2 ** 53))],
        [
          "table audit has id 9223372036854775806",
          unsignedBackup(header, ...withNumber("audit", "id", `"9223372036854775806"`))
        ],
        ["table tunnels has revision", unsignedBackup(header, ...withNumber("tunnels", "revision", `"${2 ** 53}"`))],
        ["table gateways has slot 1e9", unsignedBackup(header, ...withNumber("gateways", "slot", `"1e9"`))],
        ["table gateways has slot -1", unsignedBackup(header, ...withNumber("gateways", "slot", -1))],
        ["table gateways has listen_port 1.5", unsignedBackup(header, ...withNumber("gateways", "listen_port", 1.5))]
      ]
      for (const [reason, content] of cases) {
        const signedContent = yield* signed(content)
        assert.include((yield* Effect.flip(restoreOf(signedContent))).message, reason)
      }
      const last = rows.findLastIndex((row) => row.startsWith(`{"table":"audit"`))
      const largest = rows.map((row, index) => index === last ? row.replace(/"id": ?\d+/u, `"id": ${maximum}`) : row)
      yield* restoreOf(yield* signed(unsignedBackup(withRevision(maximum), ...largest)))
      yield* server.newTunnel(agent.id)
      const audit = yield* Effect.promise(() => server.operator.get("/api/audit"))
      assert.strictEqual(audit.status, 200)
      assert.strictEqual((yield* Effect.promise(() => server.operator.get("/readyz"))).status, 200)
    }))

  it.live("a hostile file is rejected after little CPU time, signed or not", () =>
    Effect.gen(function*() {
      const { file, header } = yield* savedBackup
      const repeated = (text: string, times: number) => gzipSync(Buffer.from(text.repeat(times)), { level: 1 })
      const manyMembers = (part: Buffer, count: number) => Buffer.concat(Array.from({ length: count }, () => part))
      const row = `{"table":"audit","row":{"id":1}}\n`
      const cases: ReadonlyArray<readonly [string, Buffer]> = [
        ["a line is not JSON", manyMembers(gzipSync(Buffer.alloc(64 * 2 ** 20, "\n")), 20)],
        [
          "decompresses to more than 100 times",
          Buffer.concat([gzipSync(`${header}\n`), manyMembers(repeated(row, 2 ** 17), 20)])
        ],
        ["longer than 16 MiB", gzipSync(randomBytes(9 * 2 ** 20).toString("hex"), { level: 1 })],
        ["more than 64 levels", unsignedBackup(header, `{"table":"gateways","row":{"serves":${"[".repeat(2_000_000)}`)],
        [
          "more than 64 levels",
          unsignedBackup(header, `{"table":"gateways","row":{"serves":${`{"a":`.repeat(500_000)}`)
        ],
        ["rows", unsignedBackup(header, `{"table":"__proto__","row":{}}`)],
        ["table agents; drop table agents", unsignedBackup(header, `{"table":"agents; drop table agents","row":{}}`)],
        ["not JSON", unsignedBackup(header, `{"table":"agents","row":{"name":"\\"`)]
      ]
      for (const [reason, content] of cases) {
        yield* Effect.promise(() => writeFile(file, content))
        const before = process.cpuUsage()
        const unsigned = yield* Effect.flip(checkBackup(file, cipher, { acceptUnsigned: false }))
        const { system, user } = process.cpuUsage(before)
        assert.include(unsigned.message, "it is not signed", reason)
        assert.isBelow((system + user) / 1000, 1000, reason)
        const between = process.cpuUsage()
        const accepted = yield* Effect.flip(checkBackup(file, cipher, { acceptUnsigned: true }))
        const used = process.cpuUsage(between)
        assert.include(accepted.message, reason)
        assert.isBelow((used.system + used.user) / 1000, 3000, reason)
      }
    }), 60_000)
})
