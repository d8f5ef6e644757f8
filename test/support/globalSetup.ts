/** One PostgreSQL for the whole run: the embedded one, or the server that `TEST_DATABASE_URL` names. */
import { openDataDirectory } from "#store/DataDirectory.ts"
import { startEmbeddedPostgres } from "#store/postgres/EmbeddedPostgres.ts"
import { Effect, Exit, Redacted, Scope } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TestProject } from "vitest/node"

declare module "vitest" {
  interface ProvidedContext {
    /** A server on which tests create databases of their own. */
    readonly serverUrl: string
    /** Its log; empty when it is not this run's own. */
    readonly serverLog: string
  }
}

export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const external = process.env["TEST_DATABASE_URL"]
  if (external !== undefined && external !== "") {
    project.provide("serverUrl", external)
    project.provide("serverLog", "")
    return undefined
  }
  const path = await mkdtemp(join(tmpdir(), "control-test-"))
  const scope = Effect.runSync(Scope.make())
  const { url } = await Effect.runPromise(Scope.provide(
    Effect.flatMap(
      openDataDirectory(path),
      () => startEmbeddedPostgres({ dataDir: path, settings: { max_connections: "300" } })
    ),
    scope
  ))
  project.provide("serverUrl", Redacted.value(url))
  project.provide("serverLog", join(path, "postgres.log"))
  return async () => {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    await rm(path, { recursive: true, force: true })
  }
}
