/** The spec's own test file (websocket-server.ja.md, テスト), ported word for word, with its comments filled in. */
import { getWebSocketServer, startWebSocketServer, WSServer } from "#library/index.ts"
import { Agents } from "#agents/Agents.ts"
import { newDatabase } from "#support/database.ts"
import { Effect, Exit, Redacted, Scope } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import WebSocket from "ws"

const scope = Effect.runSync(Scope.make())
let env: Record<string, string> = {}

beforeAll(async () => {
  const { url } = await Effect.runPromise(Scope.provide(newDatabase, scope))
  env = {
    DATABASE_URL: url,
    CONTROL_DATA_DIR: await mkdtemp(join(tmpdir(), "control-library-")),
    CONTROL_WS_HOST: "localhost",
    CONTROL_LOG_LEVEL: "None"
  }
})

afterAll(async () => {
  await Effect.runPromise(Scope.close(scope, Exit.void))
  await rm(env["CONTROL_DATA_DIR"] ?? "", { recursive: true, force: true })
})
