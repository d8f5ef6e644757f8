/** `verifyBackup` rejects files that are damaged, truncated, altered, or of another version. */
import { verifyBackup } from "#store/backup/file.ts"
import { schemaVersion } from "#store/Database.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { readFile, writeFile } from "node:fs/promises"
import { gunzipSync, gzipSync } from "node:zlib"
import { cipher, linesOfBackup, readRows, restoreBackup, saveBackup, startNetwork, unsignedBackup } from "./backups.ts"

describe("verifyBackup", () => {
  const savedBackup = Effect.gen(function*() {
    const { backup, file, url } = yield* startNetwork
    yield* saveBackup(file, backup)
    return { file, url, bytes: yield* Effect.promise(() => readFile(file)) }
  })

  it.live("a file with one changed byte is rejected, unless its content is equal", () =>
    Effect.gen(function*() {
      const { bytes, file } = yield* savedBackup
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

  it.live("a truncated file and a file with trailing data are rejected", () =>
    Effect.gen(function*() {
      const { bytes, file } = yield* savedBackup
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

  it.live("each unusable file is rejected with its name and reason, and the database stays unchanged", () =>
    Effect.gen(function*() {
      const { bytes, file, url } = yield* savedBackup
      const before = yield* readRows(url)
      const { header, rows } = linesOfBackup(bytes)
      const cases: ReadonlyArray<readonly [string, Buffer]> = [
        [
          "newer Control",
          unsignedBackup(header.replace(`"schema":${schemaVersion}`, `"schema":${schemaVersion + 1}`), ...rows)
        ],
        ["only format 1", unsignedBackup(header.replace(`"version":1`, `"version":2`), ...rows)],
        ["master key 0123456789abcdef", unsignedBackup(header.replace(cipher.keyId, "0123456789abcdef"), ...rows)],
        [
          "master key 0123456789abcdef",
          unsignedBackup(header, ...rows.map((row) => row.replaceAll(cipher.keyId, "0123456789abcdef")))
        ],
        ["does not know", unsignedBackup(header, `{"table":"strangers","row":{"id":1}}`)],
        [
          "a column strange",
          unsignedBackup(
            header,
            ...rows.map((row) => row.replace(`"row": {`, `"row":{`).replace(`"row":{`, `"row":{"strange":1,`))
          )
        ],
        [
          "does not match",
          gzipSync(gunzipSync(unsignedBackup(header, ...rows)).toString().replace("localhost:8080", "localhost:8081"))
        ],
        ["no backup of Control", unsignedBackup(`{"format":"other"}`)],
        ["cut off", gzipSync(`${[header, ...rows].join("\n")}\n`)]
      ]
      for (const [reason, unusable] of cases) {
        yield* Effect.promise(() => writeFile(file, unusable))
        const error = yield* Effect.flip(restoreBackup(url, file, { acceptUnsigned: true }))
        assert.include(error.message, reason === "does not match" ? "do not match" : reason)
        assert.include(error.message, file)
      }
      assert.deepStrictEqual(yield* readRows(url), before)
    }))

  it.live("columns that a backup of an older version lacks get their defaults", () =>
    Effect.gen(function*() {
      const { bytes, file, url } = yield* savedBackup
      const { header, rows } = linesOfBackup(bytes)
      const older = rows.map((line) => {
        const { row: { enabled: _, ...row }, table } = JSON.parse(line)
        return JSON.stringify({ table, row })
      })
      const olderHeader = header.replace(`"schema":${schemaVersion}`, `"schema":1`)
      yield* Effect.promise(() => writeFile(file, unsignedBackup(olderHeader, ...older)))
      yield* restoreBackup(url, file, { acceptUnsigned: true })
      const tunnels = (yield* readRows(url))[2] as unknown as ReadonlyArray<{ row: { enabled: boolean } }>
      assert.deepStrictEqual(tunnels.map(({ row }) => row.enabled), [true, true, true])
    }))
})
