/** Secrets in the output of processes, from start to crash; see `secrets.test.ts`. */
import { mintApiKey } from "#crypto/apiKeys.ts"
import { api } from "./support/apiClient.ts"
import { secretScanner } from "./support/SecretScanner.ts"
import { issueCertificate } from "./support/certificates.ts"
import { newDatabase } from "./support/testDatabase.ts"
import { spawnServer, startServer } from "./support/serverProcess.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { join } from "./support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { randomBytes } from "node:crypto"
import { runProcessIn } from "./cli/run.ts"

describe("the output of processes", () => {
  const secrets = () => {
    const password = randomBytes(18).toString("hex")
    secretScanner.addSecret("database password", password)
    const env = {
      CONTROL_ADMIN_TOKEN: Redacted.value(mintApiKey("admin").apiKey),
      CONTROL_MASTER_KEY: randomBytes(32).toString("base64")
    }
    secretScanner.addSecret("admin token", env.CONTROL_ADMIN_TOKEN)
    secretScanner.addSecret("master key", env.CONTROL_MASTER_KEY)
    return { env, password }
  }

  it.live("a server that cannot use its database prints the reason without the password", () =>
    Effect.gen(function*() {
      const { env, password } = secrets()
      const { url } = yield* newDatabase
      const nowhere = new URL(url)
      nowhere.pathname = "/no_such_database"
      nowhere.password = password
      const exits = yield* Effect.forEach([
        `postgres://control:${password}@127.0.0.1:port/control`,
        `mysql://control:${password}@127.0.0.1/control`,
        nowhere.toString()
      ], (databaseUrl) =>
        Effect.flatMap(spawnServer({ ...env, CONTROL_LOG_LEVEL: "trace", DATABASE_URL: databaseUrl }), ({ exited }) =>
          Effect.promise(() =>
            exited
          )), { concurrency: 3 })
      assert.deepStrictEqual(exits, [1, 1, 1])
    }), 90_000)

  it.live(
    "the server and the command line print no secret, not even if the server is killed during requests",
    () =>
      Effect.gen(function*() {
        const { env } = secrets()
        const { url } = yield* newDatabase
        const dataDir = yield* temporaryDirectory
        const server = yield* startServer({
          ...env,
          DATABASE_URL: url,
          CONTROL_DATA_DIR: dataDir,
          CONTROL_LOG_LEVEL: "trace"
        })
        const operator = api(server.apiUrl, env.CONTROL_ADMIN_TOKEN)
        const agent = yield* Effect.promise(() => operator.post("/api/agents", { name: "home" }))
        yield* join(server.wsPort, "agent", agent.body.apiKey)
        const control = runProcessIn({
          ...env,
          CONTROL_API_URL: server.apiUrl,
          CONTROL_DATA_DIR: dataDir,
          DATABASE_URL: url
        })
        yield* Effect.forEach([
          control("agent", "get", agent.body.id, "-o", "json"),
          control("doctor"),
          control("key", "delete", agent.body.apiKey, "--agent", agent.body.id),
          control("agent", "create", "--api-key", agent.body.apiKey),
          control("certificate", "create", "a.example.com", "--private-key", issueCertificate({ names: [] }).privateKey)
        ], (run) =>
          run, { concurrency: 2 })
        const inFlight = Array.from({ length: 20 }, (_, number) =>
          operator.post("/api/agents", { name: `agent ${number}` }).catch(() =>
            undefined
          ))
        server.signal("SIGKILL")
        yield* Effect.promise(() =>
          Promise.all(inFlight)
        )
        yield* Effect.promise(() => server.exited)
        assert.notStrictEqual((yield* control("agent", "list")).code, 0)
        const offline = runProcessIn({ ...env, CONTROL_DATA_DIR: dataDir, DATABASE_URL: url })
        yield* offline("doctor")
      }),
    120_000
  )
})
