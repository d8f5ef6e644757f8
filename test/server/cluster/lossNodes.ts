/** Two servers on one database whose rows disappear past the triggers. */
import { Network } from "#feed/Network.ts"
import { KeyId } from "#schema/ids.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { fastIntervals } from "#support/fastIntervals.ts"
import { makeServer } from "#support/TestServer.ts"
import { connect, joinV1, type TestClient } from "#support/TestClient.ts"
import { assert } from "@effect/vitest"
import { Context, Effect, Exit, HashMap, Option, Redacted, Scope } from "effect"
import { randomBytes } from "node:crypto"
import { writeFile } from "node:fs/promises"
import { join as joinPath } from "node:path"

export type Server = Effect.Success<ReturnType<typeof makeServer>>

/** Number of tunnels; a loss of all of them is a mass loss. */
export const tunnelCount = 20

/** A data directory with the master key, in which a node also keeps its high-water mark. */
const directoryWith = Effect.fnUntraced(function*(masterKey: string) {
  const dataDir = yield* temporaryDirectory
  yield* Effect.promise(() => writeFile(joinPath(dataDir, "master-key"), `${masterKey}\n`, { mode: 0o600 }))
  return { dataDir, masterKey: Option.none() }
})

/** Two nodes that know an agent with `tunnelCount` tunnels. Without high-water marks, secrets come from the settings. */
export const twoNodes = Effect.fnUntraced(function*(hasHighWaterMarks = true) {
  const { url } = yield* newDatabase
  const masterKey = randomBytes(32).toString("base64")
  const databaseUrl = Option.some(Redacted.make(url))
  const nodeSettings = hasHighWaterMarks
    ? directoryWith(masterKey)
    : Effect.succeed({ masterKey: Option.some(Redacted.make(masterKey)) })
  const [settingsOfOne, settingsOfOther] = [yield* nodeSettings, yield* nodeSettings]
  const one = yield* makeServer({ databaseUrl, ...settingsOfOne, nodeName: "one" }, fastIntervals)
  const other = yield* restartable({ databaseUrl, ...settingsOfOther, nodeName: "other" })
  const agent = yield* one.newAgent
  yield* Effect.forEach(Array.from({ length: tunnelCount }), () => one.newTunnel(agent.id))
  const gateway = yield* one.newGateway
  yield* catchUp(one)
  yield* catchUp(other.server())
  const agentClient = yield* joinV1(one.wsPort, "agent", agent.apiKey)
  assert.lengthOf((yield* agentClient.expect("config")).data["tunnels"], tunnelCount)
  return { url, one, other, agent, gateway, agentClient }
})

/** A server that can be stopped and started again with the same settings. */
const restartable = Effect.fnUntraced(function*(settings: Parameters<typeof makeServer>[0]) {
  let scope = yield* Scope.fork(yield* Effect.scope)
  let server = yield* Scope.provide(makeServer(settings, fastIntervals), scope)
  const outer = yield* Effect.scope
  return {
    server: () => server,
    stop: Effect.suspend(() => Scope.close(scope, Exit.void)),
    start: Effect.gen(function*() {
      scope = yield* Scope.fork(outer)
      server = yield* Scope.provide(makeServer(settings, fastIntervals), scope)
    })
  }
})

/** Reads the database now. */
export const catchUp = (server: Server) => Context.get(server.context, Network).catchUp

export const heldAt = (server: Server) =>
  Effect.promise(async () => (await server.operator.get("/api/network")).body.held)

/** The held update, as soon as there is one. */
export const untilHeld = (server: Server) => Effect.repeat(heldAt(server), { until: (held) => held !== null })
/** Returns when no update is held any more. */
export const untilReleased = (server: Server) => Effect.repeat(heldAt(server), { until: (held) => held === null })

/** Returns when the node no longer knows this API key. */
export const untilRevoked = (server: Server, keyId: string) =>
  Effect.repeat(
    Effect.map(
      Context.get(server.context, Network).state,
      ({ keys }) => HashMap.has(keys, KeyId.make(keyId))
    ).pipe(Effect.tap(() => Effect.ignore(catchUp(server)))),
    { until: (isKnown) => !isKnown }
  )

export const accept = (server: Server, timeline: string) =>
  Effect.promise(() => server.operator.post("/api/network/acceptance", { timeline }))

/** The close code of a client that tries to authenticate. */
export const closeCodeOf = Effect.fnUntraced(function*(server: Server, type: "agent" | "gateway", apiKey: string) {
  const client = yield* connect(server.wsPort, `?type=${type}`)
  client.send({ type: "auth", data: { apiKey } })
  return (yield* client.closed).code
})

/** The next `config`, after any other messages. */
export const nextConfig = (client: TestClient) => Effect.repeat(client.next, { until: ({ type }) => type === "config" })

export const lossesOf = (missing: number, from = tunnelCount) => [{ kind: "tunnels", known: from, missing }]
