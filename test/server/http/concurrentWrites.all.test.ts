/** Many writes at once while many gateways receive every change. */
import { TestServer } from "#support/TestServer.ts"
import { joinV1 } from "#support/TestClient.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"

const gateways = 1_000
const writes = 500

layer(TestServer.layer(), { timeout: 60_000, excludeTestServices: true })("writes during a fan-out", (it) => {
  it.effect(
    "500 PATCH at once are answered with 200, and each of 1,000 gateways receives every change once",
    () =>
      Effect.gen(function*() {
        const { newAgent, newGateway, newTunnel, operator, wsPort } = yield* TestServer
        const agent = yield* newAgent
        const tunnels = yield* Effect.forEach(Array.from({ length: writes }), () => newTunnel(agent.id), {
          concurrency: 8
        })
        const created = yield* Effect.forEach(Array.from({ length: gateways }), () => newGateway, { concurrency: 8 })
        const clients = yield* Effect.forEach(created, ({ apiKey }) => joinV1(wsPort, "gateway", apiKey), {
          concurrency: 8
        })
        yield* Effect.forEach(clients, ({ expect }) => expect("config"))

        const answers = yield* Effect.promise(() =>
          Promise.all(tunnels.map(({ id }) => operator.patch(`/api/tunnels/${id}`, { target: "localhost:1" })))
        )
        assert.deepStrictEqual([...new Set(answers.map(({ status }) => status))], [200])
        const changed = new Set(tunnels.map(({ id }) => String(id)))
        for (const { expect } of clients) {
          const received = yield* Effect.forEach(tunnels, () => expect("tunnel_update"))
          assert.deepStrictEqual(new Set(received.map(({ data }) => String(data["id"]))), changed)
        }
      }),
    300_000
  )
})
