/** Rotation, revocation and last use of API keys. */
import { TestServer } from "#support/TestServer.ts"
import { connect, join } from "#support/TestClient.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"

interface Key {
  readonly id: string
  readonly lastUsedAt: string | null
}

const keysOf = (path: string) =>
  Effect.flatMap(
    TestServer,
    ({ operator }) => Effect.promise(async () => (await operator.get(path)).body.items as ReadonlyArray<Key>)
  )

layer(TestServer.layer(), { excludeTestServices: true })("API keys", (it) => {
  it.effect("revoking a key closes its connection within 1 s, and the other key still authenticates", () =>
    Effect.gen(function*() {
      const { newAgent, newGateway, operator, wsPort } = yield* TestServer
      for (const type of ["agent", "gateway"] as const) {
        const owner = yield* type === "agent" ? newAgent : newGateway
        const path = `/api/${type}s/${owner.id}/keys`
        const [first] = yield* keysOf(path)
        const old = yield* join(wsPort, type, owner.apiKey)
        const { body: second } = yield* Effect.promise(() => operator.post(path))
        assert.strictEqual(old.ws.readyState, old.ws.OPEN)
        yield* Effect.promise(() => operator.delete(`${path}/${first?.id}`))
        assert.strictEqual((yield* Effect.timeout(old.closed, "1 second")).code, 4403)
        const refused = yield* connect(wsPort, `?type=${type}`)
        refused.send({ type: "auth", data: { apiKey: owner.apiKey } })
        assert.strictEqual((yield* refused.closed).code, 4401)
        yield* join(wsPort, type, second.apiKey)
      }
    }).pipe(Effect.scoped))

  it.effect("a client switches to its second key and stays online", () =>
    Effect.gen(function*() {
      const { newAgent, newTunnel, operator, wsPort } = yield* TestServer
      const owner = yield* newAgent
      const path = `/api/agents/${owner.id}/keys`
      const [first] = yield* keysOf(path)
      const old = yield* join(wsPort, "agent", owner.apiKey)
      const { body: second } = yield* Effect.promise(() => operator.post(path))
      const next = yield* join(wsPort, "agent", second.apiKey)
      assert.strictEqual((yield* old.closed).code, 4409)
      const { body } = yield* Effect.promise(() => operator.get(`/api/agents/${owner.id}`))
      assert.strictEqual(body.status, "online")
      yield* Effect.promise(() => operator.delete(`${path}/${first?.id}?wait=sent`))
      const tunnel = yield* newTunnel(owner.id)
      assert.strictEqual((yield* next.expect("tunnel_create")).data["id"], tunnel.id)
      assert.strictEqual(next.ws.readyState, next.ws.OPEN)
    }).pipe(Effect.scoped))

  it.effect("each key shows its last login, so that an unused key is visible", () =>
    Effect.gen(function*() {
      const { newAgent, operator, wsPort } = yield* TestServer
      const owner = yield* newAgent
      const path = `/api/agents/${owner.id}/keys`
      const { body: second } = yield* Effect.promise(() => operator.post(path))
      assert.deepStrictEqual((yield* keysOf(path)).map(({ lastUsedAt }) => lastUsedAt), [null, null])
      yield* join(wsPort, "agent", second.apiKey)
      const [unused, used] = yield* keysOf(path)
      assert.isNull(unused?.lastUsedAt)
      assert.strictEqual(used?.id, second.id)
      assert.match(used?.lastUsedAt ?? "", /^\d{4}-.*Z$/u)
    }).pipe(Effect.scoped))

  it.effect("a login creates neither a revision nor an audit entry", () =>
    Effect.gen(function*() {
      const { joinAgent, operator } = yield* TestServer
      const { id } = yield* joinAgent
      const { body } = yield* Effect.promise(() => operator.get("/api/audit?limit=2"))
      assert.deepStrictEqual(body.items.map(({ action }: { action: string }) => action), ["key.create", "agent.create"])
      assert.strictEqual(body.items[1].entityId, id)
    }).pipe(Effect.scoped))
})
