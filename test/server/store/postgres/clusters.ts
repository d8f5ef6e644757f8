/** Helpers for tests of the embedded database: clusters that are created once and copied. */
import { afterAll, beforeAll } from "@effect/vitest"
import { startEmbeddedPostgres } from "#store/postgres/EmbeddedPostgres.ts"
import { Effect } from "effect"
import { cpSync, mkdtempSync, realpathSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { temporaryDirectory } from "#support/temporaryFiles.ts"

export const startPostgres = (dataDir: string, settings: Record<string, string> = {}) =>
  startEmbeddedPostgres({ dataDir, settings: { fsync: "off", ...settings } })

const template = realpathSync(mkdtempSync(join(tmpdir(), "control-test-")))
beforeAll(() => Effect.runPromise(Effect.scoped(startPostgres(template))))
afterAll(() => rmSync(template, { recursive: true }))

/** A data directory with a stopped cluster. Under root, root owns the copy, as after a restored file backup. */
export const copyCluster = Effect.tap(
  temporaryDirectory,
  (dataDir) =>
    Effect.sync(() => {
      for (const name of ["postgres", "postgres-password"]) {
        cpSync(join(template, name), join(dataDir, name), { recursive: true })
      }
    })
)
