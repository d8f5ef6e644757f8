/** Starts one PostgreSQL server for the whole test run, and creates the template of the test databases. */
import { openDataDirectory } from "#store/DataDirectory.ts"
import { startEmbeddedPostgres } from "#store/postgres/EmbeddedPostgres.ts"
import { Effect, Exit, Redacted, Scope } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TestProject } from "vitest/node"
import { createTemplate, dropTemplate } from "./templateDatabase.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** URL of the PostgreSQL server on which tests create databases. */
    readonly serverUrl: string
    /** Path of the server's log; empty for a server that `TEST_DATABASE_URL` names. */
    readonly serverLog: string
    /** Name of the migrated database that tests copy. */
    readonly templateDatabase: string
  }
}

/** No test cuts the power, so PostgreSQL does not have to flush to disk. That halves the time of a new database. */
const settings = { max_connections: "300", fsync: "off", full_page_writes: "off", synchronous_commit: "off" }

/** Uses the server of `TEST_DATABASE_URL` if it is set, otherwise an embedded one in a temporary directory. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const scope = Effect.runSync(Scope.make())
  const external = process.env["TEST_DATABASE_URL"] ?? ""
  const server = external === ""
    ? await Effect.runPromise(Scope.provide(embeddedServer, scope))
    : { url: external, log: "" }
  const template = await Effect.runPromise(createTemplate(server.url))
  project.provide("serverUrl", server.url)
  project.provide("serverLog", server.log)
  project.provide("templateDatabase", template)
  return async () => {
    await Effect.runPromise(Effect.ignore(dropTemplate(server.url, template)))
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}

const embeddedServer = Effect.gen(function*() {
  const path = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "control-test-"))),
    (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
  )
  yield* openDataDirectory(path)
  const { url } = yield* startEmbeddedPostgres({ dataDir: path, settings })
  return { url: Redacted.value(url), log: join(path, "postgres.log") }
})
