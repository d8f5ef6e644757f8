import { assert, describe, it } from "@effect/vitest"
import { EmbeddedPostgresFailed } from "#store/postgres/EmbeddedPostgres.ts"
import { Effect } from "effect"
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { cluster, start } from "./clusters.ts"
import { temporaryDirectory } from "#support/temporary.ts"

describe("what cannot be opened", () => {
  it.live("a cluster of another major version names backup and restore, and stays as it is", () =>
    Effect.gen(function*() {
      const dataDir = yield* cluster
      writeFileSync(join(dataDir, "postgres", "PG_VERSION"), "15\n")
      const error = yield* Effect.flip(start(dataDir))
      assert.instanceOf(error, EmbeddedPostgresFailed)
      assert.match(error.message, /was written by PostgreSQL 15 and this is PostgreSQL 18: make a backup .* restore/u)
      assert.strictEqual(readFileSync(join(dataDir, "postgres", "PG_VERSION"), "utf8"), "15\n")
    }))

  it.live("files that are no cluster are not taken for an empty place", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      mkdirSync(join(dataDir, "postgres", "base"), { recursive: true })
      const error = yield* Effect.flip(start(dataDir))
      assert.match(error.message, /is damaged .* restore a backup/u)
      assert.deepStrictEqual(readdirSync(join(dataDir, "postgres")), ["base"])
    }))

  it.live("a damaged cluster fails with PostgreSQL's own complaint in one line, and is never made anew", () =>
    Effect.gen(function*() {
      const dataDir = yield* cluster
      const control = join(dataDir, "postgres", "global", "pg_control")
      const bytes = readFileSync(control)
      bytes.writeUInt8(bytes.readUInt8(40) ^ 0xff, 40)
      writeFileSync(control, bytes)
      const error = yield* Effect.flip(start(dataDir))
      assert.match(error.message, /checksum in control file.*restore a backup/u)
      assert.notInclude(error.message, "\n")
      assert.deepStrictEqual(readFileSync(control), bytes)
    }))

  it.live("a setting that PostgreSQL does not know is quoted", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(start(yield* cluster, { no_such_setting: "1" }))
      assert.include(error.message, "unrecognized configuration parameter \"no_such_setting\"")
    }))
})
