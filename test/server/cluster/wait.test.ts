/** README, "One node or several": a change that waits hears of the clients of every node. */
import { newDatabase } from "#support/database.ts"
import { makeServer } from "#support/server.ts"
import { joinV1 } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Redacted } from "effect"
import { randomBytes } from "node:crypto"

describe("a change at one node that waits", () => {
  it.live(
    "counts who is connected to another one, by what that has written, and calls nobody offline who is there",
    () =>
      Effect.gen(function*() {
        const { url } = yield* newDatabase
        const settings = {
          databaseUrl: Option.some(Redacted.make(url)),
          masterKey: Option.some(Redacted.make(randomBytes(32).toString("base64")))
        }
        const [here, there] = [yield* makeServer(settings), yield* makeServer(settings)]
        const [agent, away] = [yield* here.newAgent, yield* here.newGateway]
        const client = yield* joinV1(there.wsPort, "agent", agent.apiKey)
        client.send({ type: "ack", data: { revision: (yield* client.expect("config")).revision } })
        yield* Effect.forkScoped(
          Effect.tap(
            client.expect("tunnel_create"),
            ({ revision }) => Effect.sync(() => client.send({ type: "ack", data: { revision } }))
          )
        )
        const { body, status } = yield* Effect.promise(() =>
          here.operator.post("/api/tunnels?wait=applied&timeout=20s", {
            agentId: agent.id,
            domain: "wait.example.com",
            target: "localhost:80"
          })
        )
        assert.strictEqual(status, 201)
        const { applied, offline, pending, sent } = body.delivery
        assert.deepStrictEqual({ applied, pending, sent }, { applied: 1, pending: [], sent: 1 })
        assert.deepStrictEqual(offline, [{ clientType: "gateway", clientId: away.id }])
      }),
    60_000
  )
})
