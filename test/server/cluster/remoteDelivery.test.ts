/** A change that waits for delivery counts the clients of every node. */
import { Network } from "#feed/Network.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { fastIntervals } from "#support/fastIntervals.ts"
import { makeServer } from "#support/TestServer.ts"
import { joinV1 } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Option, Redacted } from "effect"
import { randomBytes } from "node:crypto"

describe("a change that waits for delivery", () => {
  it.live(
    "a change that waits for delivery counts clients of other nodes by their rows, and lists only disconnected clients as offline",
    () =>
      Effect.gen(function*() {
        const { url } = yield* newDatabase
        const settings = {
          databaseUrl: Option.some(Redacted.make(url)),
          masterKey: Option.some(Redacted.make(randomBytes(32).toString("base64")))
        }
        const [local, remote] = [yield* makeServer(settings, fastIntervals), yield* makeServer(settings, fastIntervals)]
        const [agent, disconnected] = [yield* local.newAgent, yield* local.newGateway]
        // Otherwise the agent may get a late `gateway_create` before the expected `tunnel_create`.
        yield* Context.get(remote.context, Network).catchUp
        const client = yield* joinV1(remote.wsPort, "agent", agent.apiKey)
        client.send({ type: "ack", data: { revision: (yield* client.expect("config")).revision } })
        yield* Effect.forkScoped(
          Effect.tap(
            client.expect("tunnel_create"),
            ({ revision }) => Effect.sync(() => client.send({ type: "ack", data: { revision } }))
          )
        )
        const { body, status } = yield* Effect.promise(() =>
          local.operator.post("/api/tunnels?wait=applied&timeout=20s", {
            agentId: agent.id,
            domain: "wait.example.com",
            target: "localhost:80"
          })
        )
        assert.strictEqual(status, 201)
        const { applied, offline, pending, sent } = body.delivery
        assert.deepStrictEqual({ applied, pending, sent }, { applied: 1, pending: [], sent: 1 })
        assert.deepStrictEqual(offline, [{ clientType: "gateway", clientId: disconnected.id }])
      }),
    60_000
  )
})
