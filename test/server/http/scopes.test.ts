/** Scoped gateways (docs/security.md, "Limit a gateway") on connected clients of both protocol levels. */
import { issueCertificate } from "#support/certificates.ts"
import { followEvents } from "#support/EventFollower.ts"
import { adminToken } from "#support/testDatabase.ts"
import { TestServer } from "#support/TestServer.ts"
import { join, joinV1 as connectV1, type TestClient } from "#support/TestClient.ts"
import { type View, viewFromConfig } from "#support/ViewReplica.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"

const shownBy = ({ certificates, peers, tunnels }: View) =>
  [peers, tunnels, certificates].map((rows) => Object.keys(rows).toSorted())

/** Waits for the next `config` and returns its data. */
const config = (client: TestClient) =>
  Effect.gen(function*() {
    while (true) {
      const message = yield* client.next
      if (message.type === "config") return message.data
    }
  })

/** Connects with `control.v1` and reads the first `config`, like `join`. */
const joinV1 = Effect.fnUntraced(function*(port: number, type: "agent" | "gateway", apiKey: string) {
  const client = yield* connectV1(port, type, apiKey)
  return { ...client, config: yield* client.expect("config") }
})

const a = "a.scope.example.com"
const b = "b.scope.example.org"

/** Creates two agents with one tunnel each and a certificate for each domain. */
const twoAgents = Effect.gen(function*() {
  const server = yield* TestServer
  const [one, other] = [yield* server.newAgent, yield* server.newAgent]
  const tunnels = [
    yield* server.newTunnel(one.id, { domain: a }),
    yield* server.newTunnel(other.id, { domain: b })
  ].map(({ id }) => id as string)
  const keys = new Map<string, string>()
  for (const domain of [a, b]) {
    const { certificate, privateKey } = issueCertificate({ names: [domain] })
    keys.set(domain, JSON.stringify(privateKey).slice(1, -1))
    yield* Effect.promise(() => server.operator.put(`/api/certificates/${domain}`, { certificate, privateKey }))
  }
  return { ...server, one, other, tunnels, keys }
})

layer(TestServer.layer(), { excludeTestServices: true })("scoped gateways", (it) => {
  it.effect("a gateway loses all rows outside its scope at once, and gets the rows back when the scope ends", () =>
    Effect.gen(function*() {
      const { keys, newGateway, one, operator, other, tunnels, wsPort } = yield* twoAgents
      for (const connect of [join, joinV1]) {
        const gateway = yield* newGateway
        const client = yield* connect(wsPort, "gateway", gateway.apiKey)
        const agent = yield* connect(wsPort, "agent", one.apiKey)
        const otherAgent = yield* connect(wsPort, "agent", other.apiKey)
        assert.include(JSON.stringify(client.config), keys.get(b) ?? "?")
        for (const each of [agent, otherAgent]) assert.include(JSON.stringify(each.config), gateway.id)

        const limit = (serves: unknown) =>
          Effect.promise(() => operator.patch(`/api/gateways/${gateway.id}?wait=sent`, { serves }))
        const { body, status } = yield* limit({ domains: ["*.SCOPE.example.com"] })
        assert.strictEqual(status, 200)
        assert.deepStrictEqual(body.serves, { agents: [], domains: ["*.scope.example.com"] })
        const narrow = yield* config(client)
        assert.deepStrictEqual(shownBy(viewFromConfig(narrow)), [[one.id], [tunnels[0] ?? ""], [a]])
        assert.include(JSON.stringify(narrow), keys.get(a) ?? "?")
        assert.notInclude(JSON.stringify(narrow), keys.get(b) ?? "?")
        const removal = connect === join ? yield* config(otherAgent) : (yield* otherAgent.expect("gateway_delete")).data
        if (connect === join) assert.notInclude(JSON.stringify(removal), gateway.id)
        else assert.strictEqual(removal["id"], gateway.id)

        // The gateway gets no message about a tunnel outside its scope. Its next message is about its own tunnel.
        yield* Effect.promise(() => operator.patch(`/api/tunnels/${tunnels[1]}`, { enabled: false }))
        yield* Effect.promise(() =>
          operator.patch(`/api/tunnels/${tunnels[0]}`, { target: connect === join ? "localhost:1" : "localhost:2" })
        )
        assert.strictEqual((yield* client.expect("tunnel_update")).data["id"], tunnels[0])

        const foreign = issueCertificate({ names: [b] })
        client.send({ type: "certificate_obtained", data: { domain: b, ...foreign } })
        assert.strictEqual((yield* client.expect("error")).data["code"], "certificate_rejected")

        yield* limit({})
        assert.deepStrictEqual(shownBy(viewFromConfig(yield* config(client))), [[], [], []])
        yield* limit(null)
        assert.includeMembers(shownBy(viewFromConfig(yield* config(client)))[2] ?? [], [a, b])
        yield* Effect.promise(() => operator.delete(`/api/gateways/${gateway.id}`))
      }
    }))

  it.effect("a scoped gateway cannot store a wildcard that its scope does not list", () =>
    Effect.gen(function*() {
      const { newGateway, newTunnel, one, operator, other, wsPort } = yield* TestServer.pipe(
        Effect.flatMap((server) =>
          Effect.map(Effect.all([server.newAgent, server.newAgent]), ([one, other]) => ({ ...server, one, other }))
        )
      )
      yield* newTunnel(one.id, { domain: "a.planted.example.com" })
      yield* newTunnel(other.id, { domain: "b.planted.example.com" })
      const gateway = yield* newGateway
      yield* Effect.promise(() => operator.patch(`/api/gateways/${gateway.id}`, { serves: { agents: [one.id] } }))
      const client = yield* joinV1(wsPort, "gateway", gateway.apiKey)
      const obtained = { domain: "*.planted.example.com", ...issueCertificate({ names: ["*.planted.example.com"] }) }
      client.send({ type: "certificate_obtained", data: obtained })
      assert.strictEqual((yield* client.expect("error")).data["code"], "certificate_rejected")
      yield* Effect.promise(() =>
        operator.patch(`/api/gateways/${gateway.id}?wait=sent`, { serves: { domains: ["*.planted.example.com"] } })
      )
      client.send({ type: "certificate_obtained", data: obtained })
      // The feed may send the new scope and the stored certificate before the reply.
      const reply = yield* Effect.repeat(client.next, {
        while: ({ type }) => type === "config" || type === "certificate_create"
      })
      assert.strictEqual(reply.type, "certificate_accepted")
    }))

  it.effect("a scoped gateway's wildcard leaves every view while it covers a tunnel outside the scope", () =>
    Effect.gen(function*() {
      const { apiUrl, newAgent, newGateway, newTunnel, operator, wsPort } = yield* TestServer
      const [one, other] = [yield* newAgent, yield* newAgent]
      yield* newTunnel(one.id, { domain: "a.later.example.com" })
      const [scoped, free] = [yield* newGateway, yield* newGateway]
      yield* Effect.promise(() =>
        operator.patch(`/api/gateways/${scoped.id}`, { serves: { domains: ["*.later.example.com"] } })
      )
      const author = yield* joinV1(wsPort, "gateway", scoped.apiKey)
      const reader = yield* joinV1(wsPort, "gateway", free.apiKey)
      const events = yield* followEvents(apiUrl, adminToken)
      const domain = "*.later.example.com"
      const obtained = issueCertificate({ names: [domain] })
      author.send({ type: "certificate_obtained", data: { domain, ...obtained } })
      assert.strictEqual((yield* reader.expect("certificate_create")).data["certificate"], obtained.certificate)
      assert.deepStrictEqual((yield* events.nextNamed("certificate.peculiar")).data, {
        domain,
        source: `gateway:${scoped.id}`,
        peculiarity: "self-signed"
      })

      yield* Effect.promise(() => operator.patch(`/api/gateways/${scoped.id}`, { serves: { agents: [one.id] } }))
      const { id } = yield* newTunnel(other.id, { domain: "b.later.example.com" })
      yield* reader.expect("tunnel_create")
      assert.deepStrictEqual((yield* reader.expect("certificate_delete")).data, { domain })
      const late = yield* joinV1(wsPort, "gateway", (yield* newGateway).apiKey)
      assert.notInclude(shownBy(viewFromConfig(late.config.data))[2] ?? [], domain)
      assert.isTrue((yield* Effect.promise(() => operator.get(`/api/certificates/${domain}`))).body.withheld)

      yield* Effect.promise(() => operator.delete(`/api/tunnels/${id}`))
      for (const each of [reader, late]) {
        yield* each.expect("tunnel_delete")
        assert.strictEqual((yield* each.expect("certificate_create")).data["certificate"], obtained.certificate)
      }
    }))

  it.effect("a scope with an unknown agent is rejected, but a stored scope with a deleted agent can be written again", () =>
    Effect.gen(function*() {
      const { newAgent, operator } = yield* TestServer
      const { body } = yield* Effect.promise(() =>
        operator.post("/api/gateways", { name: "g", serves: { agents: [] } })
      )
      assert.deepStrictEqual(body.serves, { agents: [], domains: [] })
      const path = `/api/gateways/${body.id}`
      const rejected = yield* Effect.promise(() => operator.patch(path, { serves: { agents: ["unknown-id"] } }))
      assert.strictEqual(rejected.status, 422)
      assert.include(rejected.body.detail, "serves.agents.0")
      const agent = yield* newAgent
      yield* Effect.promise(() => operator.patch(path, { serves: { agents: [agent.id] } }))
      yield* Effect.promise(() => operator.delete(`/api/agents/${agent.id}`))
      const { body: { serves } } = yield* Effect.promise(() => operator.get(path))
      assert.deepStrictEqual(serves.agents, [agent.id])
      assert.strictEqual((yield* Effect.promise(() => operator.patch(path, { serves }))).status, 200)
      const domains = Array.from({ length: 1_001 }, (_, index) => `d${index}.example.com`)
      assert.strictEqual((yield* Effect.promise(() => operator.patch(path, { serves: { domains } }))).status, 400)
    }))
})
