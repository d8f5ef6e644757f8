/** What the tests of the embedded database have in common: clusters to start on. */
import { afterAll, beforeAll } from "@effect/vitest"
import { startEmbeddedPostgres } from "#store/postgres/EmbeddedPostgres.ts"
import { Effect } from "effect"
import { cpSync, mkdtempSync, realpathSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { temporaryDirectory } from "#support/temporary.ts"

export const start = (dataDir: string, settings: Record<string, string> = {}) =>
  startEmbeddedPostgres({ dataDir, settings: { fsync: "off", ...settings } })

const template = realpathSync(mkdtempSync(join(tmpdir(), "control-test-")))
beforeAll(() => Effect.runPromise(Effect.scoped(start(template))))
afterAll(() => rmSync(template, { recursive: true }))

/** A data directory with a cluster at rest, copied by this process and so, under root, its own: as after restoring a backup. */
export const cluster = Effect.tap(
  temporaryDirectory,
  (dataDir) => Effect.sync(() => cpSync(join(template, "postgres"), join(dataDir, "postgres"), { recursive: true }))
)
