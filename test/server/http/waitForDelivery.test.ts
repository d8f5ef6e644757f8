/** Requests that wait for the delivery of their change. */
import { issueCertificate } from "#support/certificates.ts"
import { TestServer } from "#support/TestServer.ts"
import { connect } from "#support/TestClient.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"

/** Connects a client with `control.v1` and returns it with the revision of its first `config`. */
const joinV1 = Effect.fnUntraced(function*(type: "agent" | "gateway", apiKey: string) {
  const { wsPort } = yield* TestServer
  const client = yield* connect(wsPort, `?type=${type}`, { protocols: ["control.v1"] })
  client.send({ type: "auth", data: { apiKey, clientVersion: "edge/1.2" } })
  yield* client.expect("auth_success")
  const config = yield* client.expect("config")
  return { ...client, revision: (config as unknown as { readonly revision: number }).revision }
})

const revisionIn = (message: unknown) => (message as { readonly revision: number }).revision

const newJoined = Effect.fnUntraced(function*(type: "agent" | "gateway") {
  const { newAgent, newGateway } = yield* TestServer
  const { apiKey, id } = yield* type === "agent" ? newAgent : newGateway
  return { id, client: yield* joinV1(type, apiKey) }
})

let domains = 0
const newDomain = () => `wait${domains += 1}.example.com`

layer(TestServer.layer(), { excludeTestServices: true })("changes with ?wait=", (it) => {
  it.effect("wait=sent responds when the change is sent to every affected client, with their number", () =>
    Effect.gen(function*() {
      const { joinAgent, joinGateway, operator } = yield* TestServer
      const agent = yield* joinAgent
      yield* joinAgent
      yield* joinGateway()
      const { body, status } = yield* Effect.promise(() =>
        operator.post("/api/tunnels?wait=sent", { agentId: agent.id, domain: newDomain(), target: "localhost:1" })
      )
      assert.strictEqual(status, 201)
      assert.deepStrictEqual(body.delivery, {
        revision: body.revision,
        sent: 2,
        applied: 0,
        pending: [],
        nacks: [],
        offline: []
      })
      // The agent got a config when the gateway was created.
      yield* agent.client.expect("config")
      assert.strictEqual((yield* agent.client.expect("tunnel_create")).data["id"], body.id)
    }).pipe(Effect.scoped))

  it.effect("every changing endpoint supports wait, including deletions", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      const { certificate, privateKey } = issueCertificate({ names: ["wait.example.com"] })
      yield* Effect.promise(async () => {
        const agent = await operator.post("/api/agents?wait=sent", { name: "home" })
        const gateway = await operator.post("/api/gateways?wait=sent&timeout=1s", { name: "edge" })
        const tunnel = { agentId: agent.body.id, domain: newDomain(), target: "localhost:1" }
        const { body: { id: tunnelId } } = await operator.post("/api/tunnels", tunnel)
        const second = await operator.post(`/api/agents/${agent.body.id}/keys?wait=sent`)
        const third = await operator.post(`/api/gateways/${gateway.body.id}/keys?wait=sent`)
        const changes = [
          agent,
          gateway,
          second,
          third,
          await operator.patch(`/api/agents/${agent.body.id}?wait=applied`, { name: "office" }),
          await operator.patch(`/api/gateways/${gateway.body.id}?wait=sent`, { listenPort: 1234 }),
          await operator.patch(`/api/tunnels/${tunnelId}?wait=sent`, { enabled: false }),
          await operator.put("/api/certificates/wait.example.com?wait=sent", { certificate, privateKey }),
          await operator.delete("/api/certificates/wait.example.com?wait=sent"),
          await operator.delete(`/api/tunnels/${tunnelId}?wait=sent`),
          await operator.delete(`/api/agents/${agent.body.id}/keys/${second.body.id}?wait=sent`),
          await operator.delete(`/api/gateways/${gateway.body.id}/keys/${third.body.id}?wait=sent`),
          await operator.delete(`/api/gateways/${gateway.body.id}?wait=sent`),
          await operator.delete(`/api/agents/${agent.body.id}?wait=sent&cascade=true`)
        ]
        assert.deepStrictEqual(
          changes.map(({ status }) => status),
          [201, 201, 201, 201, ...Array.from({ length: 10 }, () => 200)]
        )
        const revisions = changes.map(({ body }) => body.delivery.revision)
        assert.deepStrictEqual(revisions, revisions.toSorted((a, b) => a - b))
        assert.strictEqual(new Set(revisions).size, revisions.length, "each change has its own revision")
        assert.isUndefined((await operator.post("/api/agents", { name: "home" })).body.delivery)
      })
    }))

  it.effect("a request without effect waits for the current revision", () =>
    Effect.gen(function*() {
      const { joinAgent, newTunnel, operator } = yield* TestServer
      const agent = yield* joinAgent
      const tunnel = yield* newTunnel(agent.id)
      const same = yield* Effect.promise(() => operator.patch(`/api/tunnels/${tunnel.id}?wait=sent`, {}))
      assert.deepInclude(same.body.delivery, { revision: tunnel.revision, sent: 1, pending: [] })
      const renamed = yield* Effect.promise(() => operator.patch(`/api/agents/${agent.id}?wait=sent`, {}))
      assert.isAtLeast(renamed.body.delivery.revision, tunnel.revision)
    }).pipe(Effect.scoped))

  it.effect("wait=applied responds when the client acknowledges, or rejects with a reason", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      const { client, id } = yield* newJoined("agent")
      const put = (target: string) =>
        Effect.promise(() =>
          operator.post("/api/tunnels?wait=applied&timeout=30s", { agentId: id, domain: newDomain(), target })
        )
      const applying = yield* Effect.forkChild(put("localhost:1"))
      const revision = revisionIn(yield* client.expect("tunnel_create"))
      client.send({ type: "ack", data: { revision } })
      const applied = yield* Fiber.join(applying)
      assert.deepInclude(applied.body.delivery, { revision, sent: 1, applied: 1, pending: [], nacks: [] })

      const rejecting = yield* Effect.forkChild(put("localhost:2"))
      const next = revisionIn(yield* client.expect("tunnel_create"))
      const reason = { revision: next, code: "port_in_use", message: "localhost:2 is taken" }
      client.send({ type: "nack", data: reason })
      const rejected = yield* Fiber.join(rejecting)
      assert.deepInclude(rejected.body.delivery, {
        sent: 1,
        applied: 0,
        pending: [],
        nacks: [{ clientType: "agent", clientId: id, ...reason }]
      })
    }).pipe(Effect.scoped))

  it.effect("the delivery lists affected clients that are offline, and no other clients", () =>
    Effect.gen(function*() {
      const { newAgent, operator } = yield* TestServer
      const agent = yield* newAgent
      const otherAgent = yield* newAgent
      const { body } = yield* Effect.promise(() =>
        operator.post("/api/tunnels?wait=applied", { agentId: agent.id, domain: newDomain(), target: "localhost:1" })
      )
      const offline = body.delivery.offline.filter(({ clientType }: Record<string, string>) => clientType === "agent")
      assert.deepStrictEqual(offline, [{ clientType: "agent", clientId: agent.id }])
      assert.notInclude(JSON.stringify(body.delivery), otherAgent.id)
    }).pipe(Effect.scoped))

  it.effect("wait=applied does not wait for plain clients, which cannot acknowledge, and lists them as pending", () =>
    Effect.gen(function*() {
      const { joinAgent, operator } = yield* TestServer
      const agent = yield* joinAgent
      const { body } = yield* Effect.promise(() =>
        operator.post("/api/tunnels?wait=applied&timeout=60s", {
          agentId: agent.id,
          domain: newDomain(),
          target: "localhost:1"
        })
      )
      assert.deepInclude(body.delivery, {
        applied: 0,
        pending: [{ clientType: "agent", clientId: agent.id, revision: 0 }]
      })
    }).pipe(Effect.scoped))

  it.effect("an earlier nack neither ends the wait for the correcting change nor appears in its delivery", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      const { client, id } = yield* newJoined("agent")
      const broken = yield* Effect.promise(() =>
        operator.post("/api/tunnels", { agentId: id, domain: newDomain(), target: "localhost:1" })
      )
      const revision = revisionIn(yield* client.expect("tunnel_create"))
      client.send({ type: "nack", data: { revision, code: "port_in_use", message: "localhost:1 is taken" } })
      const correcting = yield* Effect.forkChild(
        Effect.promise(() =>
          operator.patch(`/api/tunnels/${broken.body.id}?wait=applied&timeout=30s`, { target: "localhost:2" })
        )
      )
      client.send({ type: "ack", data: { revision: revisionIn(yield* client.expect("tunnel_update")) } })
      const { body } = yield* Fiber.join(correcting)
      assert.deepInclude(body.delivery, { applied: 1, pending: [], nacks: [] })
    }).pipe(Effect.scoped))

  it.effect("after the timeout the change is stored, and the response lists pending clients", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      const { client, id } = yield* newJoined("agent")
      client.send({ type: "ack", data: { revision: client.revision } })
      const late = yield* Effect.promise(() =>
        operator.post("/api/tunnels?wait=applied&timeout=200ms", {
          agentId: id,
          domain: newDomain(),
          target: "localhost:1"
        })
      )
      assert.strictEqual(late.status, 201)
      assert.deepInclude(late.body.delivery, { sent: 1, applied: 0, nacks: [] })
      assert.deepStrictEqual(
        late.body.delivery.pending.map(({ clientId, clientType }: Record<string, string>) => [clientType, clientId]),
        [["agent", id]]
      )
      assert.strictEqual((yield* Effect.promise(() => operator.get(`/api/tunnels/${late.body.id}`))).status, 200)
    }).pipe(Effect.scoped))

  it.effect("an invalid wait or timeout is rejected before anything is stored", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      yield* Effect.promise(async () => {
        const before = (await operator.get("/api/agents?limit=1000")).body.items.length
        for (
          const query of [
            "wait=",
            "wait=maybe",
            "wait=sent&timeout=",
            "wait=sent&timeout=soon",
            "wait=sent&timeout=61s"
          ]
        ) {
          const { body, status } = await operator.post(`/api/agents?${query}`, { name: "home" })
          assert.strictEqual(status, 400, query)
          assert.strictEqual(body.errors[0].in, "query")
        }
        for (const timeout of ["-1s", "1.5.5s", "1h", "Infinity", "2 minutes", "99999999s", "5"]) {
          const path = `/api/agents?wait=sent&timeout=${encodeURIComponent(timeout)}`
          assert.strictEqual((await operator.post(path, { name: "home" })).status, 400, timeout)
        }
        assert.strictEqual((await operator.get("/api/agents?limit=1000")).body.items.length, before)
        for (const timeout of ["0s", "5 seconds", "1 second", "500 millis", "500ms", "1 minute", "1m", "1.5s"]) {
          const path = `/api/agents?wait=sent&timeout=${encodeURIComponent(timeout)}`
          assert.strictEqual((await operator.post(path, { name: `waits ${timeout}` })).status, 201, timeout)
        }
      })
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("delivery state of clients", (it) => {
  it.effect("agents and clients show sent, applied and rejected revisions and the client version at once", () =>
    Effect.gen(function*() {
      const { newTunnel, operator } = yield* TestServer
      const { client, id } = yield* newJoined("agent")
      const tunnel = yield* newTunnel(id)
      yield* client.expect("tunnel_create")
      client.send({ type: "ack", data: { revision: tunnel.revision } })
      const other = yield* newTunnel(id)
      yield* client.expect("tunnel_create")
      const nack = { revision: other.revision, code: "bad", message: "no such host", tunnelId: other.id }
      client.send({ type: "nack", data: nack })
      const shown = yield* Effect.repeat(Effect.promise(() => operator.get(`/api/agents/${id}`)), {
        until: ({ body }) => body.lastNack !== null
      })
      assert.deepInclude(shown.body, { sentRevision: other.revision, appliedRevision: tunnel.revision })
      assert.strictEqual(shown.body.session.clientVersion, "edge/1.2")
      const { at, ...lastNack } = shown.body.lastNack
      assert.deepStrictEqual(lastNack, nack)
      assert.match(at, /^\d{4}-.*Z$/u)

      const listed = yield* Effect.promise(() => operator.get("/api/clients"))
      assert.deepInclude(listed.body.items[0], {
        clientVersion: "edge/1.2",
        level: "control.v1",
        sentRevision: other.revision,
        appliedRevision: tunnel.revision,
        lastNack: shown.body.lastNack
      })

      client.send({ type: "ack", data: { revision: other.revision } })
      yield* Effect.repeat(Effect.promise(() => operator.get("/api/agents")), {
        until: ({ body }) => body.items[0].appliedRevision === other.revision && body.items[0].lastNack === null
      })
      client.ws.close()
      yield* client.closed
      const gone = yield* Effect.repeat(Effect.promise(() => operator.get(`/api/agents/${id}`)), {
        until: ({ body }) => body.status === "offline"
      })
      assert.deepInclude(gone.body, { session: null, sentRevision: null, appliedRevision: null })
    }).pipe(Effect.scoped))
})
