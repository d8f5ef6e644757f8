/** Reports of gateways: storing, forgetting, scopes, events and waiting for them. */
import type { ApiResponse } from "#support/apiClient.ts"
import { joinV1 } from "#support/TestClient.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"

const json = (response: Promise<ApiResponse>) => Effect.promise(async () => (await response).body)

/** Report of a gateway in the API. */
interface Row {
  readonly gatewayId: string
  readonly status: string | null
}

const makeNetwork = Effect.gen(function*() {
  const { newAgent, newGateway, newTunnel, operator, wsPort } = yield* TestServer
  const agent = yield* newAgent
  const gateway = yield* newGateway
  const tunnel = yield* newTunnel(agent.id)
  const client = yield* joinV1(wsPort, "gateway", gateway.apiKey)
  yield* client.expect("config")
  const path = `/api/tunnels/${tunnel.id}`
  const ack = () => client.send({ type: "ack", data: { revision: 1_000_000 } })
  const report = (status: string, more: object = {}, data: object = {}) =>
    client.send({ type: "status", data: { tunnels: [{ id: tunnel.id, status, ...more }], ...data } })
  const shown = Effect.suspend(() => json(operator.get(path)))
  const own = Effect.map(shown, ({ serving }) => serving.find((row: Row) => row.gatewayId === gateway.id))
  const until = (status: string | undefined) => Effect.repeat(own, { until: (row) => row?.status === status })
  return { agent, gateway, tunnel, client, path, ack, report, shown, until, operator }
})

layer(TestServer.layer(), { excludeTestServices: true })("reports of gateways", (it) => {
  it.effect("a gateway's report appears with its detail and does not change the tunnel's revision", () =>
    Effect.gen(function*() {
      const { gateway, report, shown, tunnel, until } = yield* makeNetwork
      report("agent-unreachable", { detail: "no handshake" })
      const { detail, gatewayId, since } = yield* until("agent-unreachable")
      assert.deepStrictEqual({ detail, gatewayId }, { detail: "no handshake", gatewayId: gateway.id })
      report("serving")
      const serving = yield* until("serving")
      assert.isNull(serving.detail)
      assert.isAtLeast(Date.parse(serving.since), Date.parse(since))
      assert.strictEqual((yield* shown).revision, tunnel.revision)
    }))

  it.effect("a report disappears when the tunnel's target changes, when the tunnel is disabled, and when the gateway disconnects", () =>
    Effect.gen(function*() {
      const { client, operator, path, report, until } = yield* makeNetwork
      for (const patch of [{ target: "localhost:9" }, { enabled: false }]) {
        report("serving")
        yield* until("serving")
        yield* json(operator.patch(path, patch))
        yield* until(undefined)
      }
      yield* json(operator.patch(path, { enabled: true }))
      report("serving")
      yield* until("serving")
      client.ws.close()
      yield* until(undefined)
    }))

  it.effect("a report about an older row of the tunnel is dropped, also if it arrives after the change", () =>
    Effect.gen(function*() {
      const { operator, path, report, tunnel, until } = yield* makeNetwork
      const { revision } = yield* json(operator.patch(path, { target: "localhost:9" }))
      report("serving", {}, { revision: tunnel.revision })
      report("agent-unreachable", {}, { revision: tunnel.revision })
      report("port-in-use", {}, { revision })
      yield* until("port-in-use")
      report("serving", {}, { revision: tunnel.revision })
      // Reports are written in their order, so that a stored one proves that the earlier one was dropped.
      report("target-unreachable", {}, { revision })
      yield* until("target-unreachable")
    }))

  it.effect("a scoped gateway reports only tunnels of its scope", () =>
    Effect.gen(function*() {
      const { agent, client, gateway, operator, tunnel } = yield* makeNetwork
      const { newTunnel } = yield* TestServer
      const other = yield* newTunnel(agent.id)
      yield* json(operator.patch(`/api/gateways/${gateway.id}`, { serves: { domains: [tunnel.domain] } }))
      const tunnels = [
        { id: other.id, status: "serving" },
        { domain: other.domain, status: "serving" },
        { domain: tunnel.domain, status: "serving" }
      ]
      client.send({ type: "status", data: { tunnels } })
      const rows = (id: string) => Effect.suspend(() => json(operator.get(`/api/tunnels/${id}`)))
      const own = yield* Effect.repeat(rows(tunnel.id), { until: ({ serving }) => serving.length > 0 })
      assert.strictEqual(own.serving[0].gatewayId, gateway.id)
      assert.deepStrictEqual((yield* rows(other.id)).serving.filter((row: Row) => row.gatewayId === gateway.id), [])
    }))

  it.effect("wait=serving ends when the gateway reports serving for the new row, and otherwise at the timeout", () =>
    Effect.gen(function*() {
      const { client, gateway, operator, path, report, until } = yield* makeNetwork
      report("serving")
      yield* until("serving")
      const late = yield* json(operator.patch(`${path}?wait=serving&timeout=50ms`, { target: "localhost:9" }))
      const ownOf = ({ delivery }: { readonly delivery: { readonly serving: ReadonlyArray<Row> } }) =>
        delivery.serving.find((row: Row) => row.gatewayId === gateway.id)
      assert.strictEqual(ownOf(late)?.status, null)
      const waiting = yield* Effect.forkScoped(
        json(operator.patch(`${path}?wait=serving&timeout=20s`, { target: "localhost:10" }))
      )
      yield* client.expect("tunnel_update")
      const { revision } = yield* client.expect("tunnel_update")
      client.send({ type: "ack", data: { revision } })
      report("serving", {}, { revision })
      const done = yield* Fiber.join(waiting)
      assert.strictEqual(ownOf(done)?.status, "serving")
      const disabled = yield* json(operator.patch(`${path}?wait=serving&timeout=50ms`, { enabled: false }))
      assert.deepStrictEqual(disabled.delivery.serving, [])
    }))

  it.effect("a tunnel shows wanted, sent and applied revisions of its agent and of its gateways", () =>
    Effect.gen(function*() {
      const { agent, client, gateway, shown, tunnel } = yield* makeNetwork
      client.send({ type: "ack", data: { revision: tunnel.revision } })
      const ownOf = (clients: ReadonlyArray<{ readonly clientId: string; readonly [field: string]: unknown }>) =>
        clients.find(({ clientId }) => clientId === gateway.id)
      const { clients } = yield* Effect.repeat(shown, {
        until: ({ clients }) => ownOf(clients)?.["applied"] === tunnel.revision
      })
      assert.deepInclude(ownOf(clients) ?? {}, { status: "online", wanted: tunnel.revision, applied: tunnel.revision })
      assert.deepInclude(clients[0], { clientId: agent.id, clientType: "agent", status: "offline", applied: null })
    }))

  it.effect("peers appear at the client that reports them, without unknown peers, until its connection ends", () =>
    Effect.gen(function*() {
      const { agent, client, gateway, operator } = yield* makeNetwork
      const facts = { lastHandshakeAt: "2026-01-31T12:00:00.000Z", receivedBytes: 5, sentBytes: 7, endpoint: null }
      client.send({
        type: "status",
        data: { tunnels: [], peers: [{ id: agent.id, ...facts }, { id: "unknown", ...facts }] }
      })
      const peers = Effect.suspend(() => json(operator.get(`/api/gateways/${gateway.id}`)))
      const shown = yield* Effect.repeat(peers, { until: ({ peers }) => peers.length > 0 })
      assert.deepStrictEqual(shown.peers, [{ id: agent.id, ...facts }])
      assert.deepStrictEqual((yield* json(operator.get(`/api/agents/${agent.id}`))).peers, [])
      client.ws.close()
      yield* Effect.repeat(peers, { until: ({ peers }) => peers.length === 0 })
    }))
})
