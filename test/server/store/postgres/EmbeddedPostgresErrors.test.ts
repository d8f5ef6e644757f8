/** The embedded database does not start on a cluster that it cannot use, and does not change that cluster. */
import { assert, describe, it } from "@effect/vitest"
import { EmbeddedPostgresFailed } from "#store/postgres/EmbeddedPostgres.ts"
import { Effect } from "effect"
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { copyCluster, startPostgres } from "./clusters.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"

describe("an embedded database that cannot start", () => {
  it.live("a cluster of another major version causes an error that recommends backup and restore, and stays unchanged", () =>
    Effect.gen(function*() {
      const dataDir = yield* copyCluster
      writeFileSync(join(dataDir, "postgres", "PG_VERSION"), "15\n")
      const error = yield* Effect.flip(startPostgres(dataDir))
      assert.instanceOf(error, EmbeddedPostgresFailed)
      assert.match(error.message, /was written by PostgreSQL 15 and this is PostgreSQL 18: make a backup .* restore/u)
      assert.strictEqual(readFileSync(join(dataDir, "postgres", "PG_VERSION"), "utf8"), "15\n")
    }))

  it.live("a directory without a valid cluster causes an error, and no new cluster is created in it", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      mkdirSync(join(dataDir, "postgres", "base"), { recursive: true })
      const error = yield* Effect.flip(startPostgres(dataDir))
      assert.match(error.message, /is damaged .* restore a backup/u)
      assert.deepStrictEqual(readdirSync(join(dataDir, "postgres")), ["base"])
    }))

  it.live("a damaged cluster causes an error with PostgreSQL's own message in one line, and is not recreated", () =>
    Effect.gen(function*() {
      const dataDir = yield* copyCluster
      const control = join(dataDir, "postgres", "global", "pg_control")
      const bytes = readFileSync(control)
      bytes.writeUInt8(bytes.readUInt8(40) ^ 0xff, 40)
      writeFileSync(control, bytes)
      const error = yield* Effect.flip(startPostgres(dataDir))
      assert.match(error.message, /checksum in control file.*restore a backup/u)
      assert.notInclude(error.message, "\n")
      assert.deepStrictEqual(readFileSync(control), bytes)
    }))

  it.live("an unknown setting is named in the error", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(startPostgres(yield* copyCluster, { no_such_setting: "1" }))
      assert.include(error.message, "unrecognized configuration parameter \"no_such_setting\"")
    }))
})
