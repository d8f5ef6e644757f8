/** Two whole servers on one database, from which rows go without being deleted. */
import { Network } from "#feed/Network.ts"
import { newDatabase } from "#support/database.ts"
import { temporaryDirectory } from "#support/process.ts"
import { makeServer } from "#support/server.ts"
import { connect, joinV1, type TestClient } from "#support/TestClient.ts"
import { PgClient } from "@effect/sql-pg"
import { assert } from "@effect/vitest"
import { Context, Effect, Exit, Option, Redacted, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { writeFile } from "node:fs/promises"
import { join as joinPath } from "node:path"

export type Server = Effect.Success<ReturnType<typeof makeServer>>

export const many = 20

/** Some statements in one transaction, as the owner of the tables writes them. */
export const written = (url: string, ...statements: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql.withTransaction(Effect.forEach(statements, (statement) => sql.unsafe(statement)))
  }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })), Effect.scoped)

/** The triggers do not see it: as a backup that was read in badly, or a hand that went around them. */
export const unseen = "set local session_replication_role = replica"
export const renamed = "update control_meta set timeline = gen_random_uuid()::text"

/** How a node is given its secrets: in a data directory of its own, where it also keeps its mark, or from outside. */
const directoryWith = Effect.fnUntraced(function*(masterKey: string) {
  const dataDir = yield* temporaryDirectory
  yield* Effect.promise(() => writeFile(joinPath(dataDir, "master-key"), `${masterKey}\n`, { mode: 0o600 }))
  return { dataDir, masterKey: Option.none() }
})

/** Two nodes that know an agent with many tunnels, each with a client of its own kind. */
export const twoNodes = Effect.fnUntraced(function*(keepMarks = true) {
  const { url } = yield* newDatabase
  const masterKey = randomBytes(32).toString("base64")
  const databaseUrl = Option.some(Redacted.make(url))
  const settingsOf = keepMarks
    ? directoryWith(masterKey)
    : Effect.succeed({ masterKey: Option.some(Redacted.make(masterKey)) })
  const [ofOne, ofOther] = [yield* settingsOf, yield* settingsOf]
  const one = yield* makeServer({ databaseUrl, ...ofOne, nodeName: "one" })
  const other = yield* restartable({ databaseUrl, ...ofOther, nodeName: "other" })
  const agent = yield* one.newAgent
  yield* Effect.forEach(Array.from({ length: many }), () => one.newTunnel(agent.id))
  const gateway = yield* one.newGateway
  yield* known(one)
  yield* known(other.server())
  const ofAgent = yield* joinV1(one.wsPort, "agent", agent.apiKey)
  assert.lengthOf((yield* ofAgent.expect("config")).data["tunnels"], many)
  return { url, one, other, agent, gateway, ofAgent }
})

/** A server that can be stopped and started again with the same settings. */
const restartable = Effect.fnUntraced(function*(settings: Parameters<typeof makeServer>[0]) {
  let scope = yield* Scope.fork(yield* Effect.scope)
  let server = yield* Scope.provide(makeServer(settings), scope)
  const outer = yield* Effect.scope
  return {
    server: () => server,
    stop: Effect.suspend(() => Scope.close(scope, Exit.void)),
    start: Effect.gen(function*() {
      scope = yield* Scope.fork(outer)
      server = yield* Scope.provide(makeServer(settings), scope)
    })
  }
})

export const known = (server: Server) => Context.get(server.context, Network).catchUp

export const heldAt = (server: Server) =>
  Effect.promise(async () => (await server.operator.get("/api/network")).body.held)

export const untilHeld = (server: Server) => Effect.repeat(heldAt(server), { until: (held) => held !== null })
export const untilGiven = (server: Server) => Effect.repeat(heldAt(server), { until: (held) => held === null })

export const accept = (server: Server, timeline: string) =>
  Effect.promise(() => server.operator.post("/api/network/acceptance", { timeline }))

/** Whoever is let in gets in; everybody else is told to come again. */
export const refusedAt = Effect.fnUntraced(function*(server: Server, type: "agent" | "gateway", apiKey: string) {
  const client = yield* connect(server.wsPort, `?type=${type}`)
  client.send({ type: "auth", data: { apiKey } })
  return (yield* client.closed).code
})

/** The next `config` of a client that may be told other things before it. */
export const nextConfig = (client: TestClient) => Effect.repeat(client.next, { until: ({ type }) => type === "config" })

export const lossesOf = (missing: number, from = many) => [{ kind: "tunnels", known: from, missing }]
