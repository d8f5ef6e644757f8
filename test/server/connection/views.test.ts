/** Views and deltas at the plain level: protocol.md, "Changes and messages", row by row. */
import { Network } from "#feed/Network.ts"
import { issueCertificate } from "#support/certificates.ts"
import { TestServer } from "#support/TestServer.ts"
import { connect, join } from "#support/TestClient.ts"
import { viewFromConfig, ViewReplica } from "#support/ViewReplica.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"

layer(TestServer.layer(), { excludeTestServices: true })("views at the plain level", (it) => {
  it.effect("an agent gets itself, every gateway with the address inside its own subnet, and its own tunnels", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const gateway = yield* server.joinGateway("203.0.113.7")
      const agent = yield* server.newAgent
      const other = yield* server.newAgent
      const mine = yield* server.newTunnel(agent.id, { enabled: false })
      yield* server.newTunnel(other.id)
      // Otherwise the first view may not have the tunnels yet.
      yield* Context.get(server.context, Network).catchUp
      const { config } = yield* join(server.wsPort, "agent", agent.apiKey)
      const { agent: own, gateways, tunnels } = config.data
      assert.deepStrictEqual(Object.keys(own), ["id", "name", "virtualIp", "subnet", "wireguardPrivateKey"])
      const seen = gateways.find((row: { id: string }) => row.id === gateway.id)
      assert.deepStrictEqual(Object.keys(seen), ["id", "name", "publicIp", "wireguardPublicKey", "virtualIps"])
      assert.strictEqual(seen.publicIp, "203.0.113.7")
      assert.lengthOf(seen.virtualIps, 1)
      assert.strictEqual(
        seen.virtualIps[0].split(".").slice(0, 3).join("."),
        own.virtualIp.split(".").slice(0, 3).join(".")
      )
      assert.deepStrictEqual(tunnels, [{ id: mine.id, domain: mine.domain, target: "localhost:8080", enabled: false }])
    }))

  it.effect("a gateway gets itself, every agent, every tunnel and every certificate", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.newAgent
      const tunnel = yield* server.newTunnel(agent.id)
      const { certificate, privateKey, expiresAt } = issueCertificate({ names: [tunnel.domain] })
      yield* Effect.promise(() =>
        server.operator.put(`/api/certificates/${tunnel.domain}`, { certificate, privateKey })
      )
      const { client } = yield* server.joinGateway()
      const { gateway, agents, tunnels, certificates } = client.config.data
      assert.deepStrictEqual(Object.keys(gateway), ["id", "name", "wireguardPrivateKey"])
      const seen = agents.find((row: { id: string }) => row.id === agent.id)
      assert.deepStrictEqual(Object.keys(seen), ["id", "name", "virtualIp", "subnet", "wireguardPublicKey"])
      assert.deepStrictEqual(tunnels.find((row: { id: string }) => row.id === tunnel.id), {
        id: tunnel.id,
        domain: tunnel.domain,
        agentVirtualIp: seen.virtualIp,
        target: "localhost:8080",
        enabled: true
      })
      assert.deepStrictEqual(certificates, [{
        domain: tunnel.domain,
        certificate,
        privateKey,
        expiresAt: certificates[0].expiresAt
      }])
      assert.strictEqual(Date.parse(certificates[0].expiresAt), Date.parse(expiresAt))
    }))

  it.effect("creating, updating, moving and deleting a tunnel sends exactly one message to each client that it concerns", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const [a, b, gateway] = yield* Effect.all([server.joinAgent, server.joinAgent, server.joinGateway()])
      // The creation of the gateway may still send a config to the agents: `untilDelta` skips it.
      const { operator } = server
      const tunnel = yield* server.newTunnel(a.id)
      const plain = { id: tunnel.id, domain: tunnel.domain, target: "localhost:8080", enabled: true }
      assert.deepStrictEqual((yield* untilDelta(a.client)).data, plain)
      const created = yield* untilDelta(gateway.client)
      assert.deepStrictEqual([created.type, created.data], ["tunnel_create", {
        ...plain,
        agentVirtualIp: created.data["agentVirtualIp"]
      }])

      yield* Effect.promise(() => operator.patch(`/api/tunnels/${tunnel.id}`, { enabled: false }))
      assert.deepStrictEqual(yield* a.client.next, { type: "tunnel_update", data: { ...plain, enabled: false } })
      assert.strictEqual((yield* gateway.client.next).type, "tunnel_update")

      yield* Effect.promise(() => operator.patch(`/api/tunnels/${tunnel.id}`, { agentId: b.id }))
      assert.deepStrictEqual(yield* a.client.next, { type: "tunnel_delete", data: { id: tunnel.id } })
      assert.deepStrictEqual(yield* untilDelta(b.client), { type: "tunnel_create", data: { ...plain, enabled: false } })
      const moved = yield* gateway.client.next
      assert.strictEqual(moved.type, "tunnel_update")
      assert.notStrictEqual(moved.data["agentVirtualIp"], created.data["agentVirtualIp"])

      yield* Effect.promise(() => operator.delete(`/api/tunnels/${tunnel.id}`))
      assert.deepStrictEqual(yield* b.client.next, { type: "tunnel_delete", data: { id: tunnel.id } })
      assert.deepStrictEqual(yield* gateway.client.next, { type: "tunnel_delete", data: { id: tunnel.id } })
      assert.strictEqual(a.client.unread() + b.client.unread() + gateway.client.unread(), 0)
    }))

  it.effect("renaming an agent sends a config to it and to the gateways; deleting it closes it with 4410", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const [agent, gateway] = yield* Effect.all([server.joinAgent, server.joinGateway()])
      yield* Effect.promise(() => server.operator.patch(`/api/agents/${agent.id}`, { name: "renamed" }))
      const own = yield* untilMessage(
        agent.client,
        ({ type, data }) => type === "config" && data["agent"].name === "renamed"
      )
      assert.strictEqual(own.data["agent"].id, agent.id)
      yield* untilMessage(
        gateway.client,
        ({ type, data }) => type === "config" && data["agents"].some((row: { name: string }) => row.name === "renamed")
      )
      yield* Effect.promise(() => server.operator.delete(`/api/agents/${agent.id}`))
      assert.strictEqual((yield* agent.client.closed).code, 4410)
      yield* untilMessage(
        gateway.client,
        ({ type, data }) => type === "config" && !data["agents"].some((row: { id: string }) => row.id === agent.id)
      )
    }))

  it.effect("renaming a gateway sends a config to it and to every agent; deleting it closes it with 4410", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const [agent, gateway, other] = yield* Effect.all([server.joinAgent, server.joinGateway(), server.joinGateway()])
      const path = `/api/gateways/${gateway.id}`
      yield* Effect.promise(() => server.operator.patch(path, { name: "renamed" }))
      const own = yield* untilMessage(gateway.client, ({ data }) => data["gateway"]?.name === "renamed")
      assert.strictEqual(own.type, "config")
      yield* untilMessage(
        agent.client,
        ({ data }) => data["gateways"].some((row: { name: string }) => row.name === "renamed")
      )
      // No view contains the port.
      yield* Effect.promise(() => server.operator.patch(path, { listenPort: 51_821 }))
      yield* Effect.promise(() => server.operator.delete(path))
      assert.strictEqual((yield* gateway.client.closed).code, 4410)
      const after = yield* agent.client.next
      assert.isFalse(after.data["gateways"].some((row: { id: string }) => row.id === gateway.id))
      assert.strictEqual(gateway.client.unread(), 1, "only the close")
      assert.strictEqual(other.client.unread(), 0, "gateways do not see each other")
    }))

  it.effect("a new publicIp of a gateway sends a config to every agent and nothing to the gateway", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const gateway = yield* server.joinGateway("203.0.113.1")
      const agent = yield* server.joinAgent
      const again = yield* join(server.wsPort, "gateway", gateway.apiKey, "2001:db8::2")
      const config = yield* untilMessage(
        agent.client,
        ({ type, data }) =>
          type === "config" && data["gateways"].some((row: { publicIp: string }) => row.publicIp === "2001:db8::2")
      )
      assert.isDefined(config)
      const kept = yield* join(server.wsPort, "gateway", gateway.apiKey)
      assert.strictEqual((yield* again.closed).code, 4409)
      const { body } = yield* Effect.promise(() => server.operator.get(`/api/gateways/${gateway.id}`))
      assert.strictEqual(body.publicIp, "2001:db8::2", "without publicIp in auth the stored address stays")
      assert.strictEqual(kept.unread(), 0)
    }))

  it.effect("revoking a key closes every connection that authenticated with it with 4403; another key of the client still works", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.joinAgent
      const second = yield* Effect.promise(() => server.operator.post(`/api/agents/${agent.id}/keys`, {}))
      assert.strictEqual(second.status, 201)
      const keys = yield* Effect.promise(() => server.operator.get(`/api/agents/${agent.id}/keys`))
      const first = keys.body.items.find((key: { id: string }) => key.id !== second.body.id)
      yield* Effect.promise(() => server.operator.delete(`/api/agents/${agent.id}/keys/${first.id}`))
      assert.strictEqual((yield* agent.client.closed).code, 4403)
      const refused = yield* connect(server.wsPort)
      refused.send({ type: "auth", data: { apiKey: agent.apiKey } })
      assert.strictEqual((yield* refused.expect("auth_error")).data["message"], "Invalid API key")
      yield* join(server.wsPort, "agent", second.body.apiKey)
    }))

  it.effect("a certificate that a gateway obtained reaches every gateway; an invalid one is rejected with the reason", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.newAgent
      const { domain } = yield* server.newTunnel(agent.id)
      const [one, other] = yield* Effect.all([server.joinGateway(), server.joinGateway()])
      const good = issueCertificate({ names: [domain] })
      one.client.send({ type: "certificate_obtained", data: { domain, ...good } })
      for (const { client } of [one, other]) {
        yield* untilMessage(
          client,
          ({ type, data }) =>
            type === "config" &&
            data["certificates"].some((row: { certificate: string }) => row.certificate === good.certificate)
        )
      }
      const rejected = [
        { domain: "no-tunnel.example.com", ...issueCertificate({ names: ["no-tunnel.example.com"] }) },
        { domain, ...issueCertificate({ names: ["another.example.com"] }) },
        { domain, ...good, privateKey: issueCertificate({ names: [domain] }).privateKey },
        { domain, ...good, certificate: "not a certificate" },
        { domain, ...issueCertificate({ names: [domain], notAfter: new Date(Date.now() - 1_000) }) }
      ]
      for (const data of rejected) {
        other.client.send({ type: "certificate_obtained", data })
        const error = yield* untilMessage(other.client, ({ type }) => type === "error")
        assert.strictEqual(error.data["code"], "certificate_rejected")
        assert.notInclude(error.data["message"], "PRIVATE")
      }
    }))

  it.effect("a status report of an agent is stored for its own tunnels only", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const [agent, other] = yield* Effect.all([server.joinAgent, server.joinAgent])
      const [mine, theirs] = [yield* server.newTunnel(agent.id), yield* server.newTunnel(other.id)]
      agent.client.send({
        type: "status",
        data: { tunnels: [{ domain: mine.domain, status: "active" }, { domain: theirs.domain, status: "stolen" }] }
      })
      const reported = yield* Effect.promise(() => server.operator.get(`/api/tunnels/${mine.id}`)).pipe(
        Effect.map(({ body }) => body.reported),
        Effect.repeat({ until: (value) => value !== null })
      )
      assert.strictEqual(reported.status, "active")
      const { body } = yield* Effect.promise(() => server.operator.get(`/api/tunnels/${theirs.id}`))
      assert.isNull(body.reported)
    }))

  it.effect("config and deltas add up to the view at every moment, under a stream of changes", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const [agent, gateway] = yield* Effect.all([server.joinAgent, server.joinGateway()])
      const viewers = [agent, gateway].map(({ client }) => ({ client, viewer: new ViewReplica() }))
      for (const { client, viewer } of viewers) viewer.apply(client.config)
      const tunnels = yield* Effect.forEach(Array.from({ length: 40 }), () => server.newTunnel(agent.id), {
        concurrency: 10
      })
      yield* Effect.forEach(
        tunnels.slice(0, 30),
        ({ id }) => Effect.promise(() => server.operator.patch(`/api/tunnels/${id}`, { target: "localhost:9090" })),
        { concurrency: 10 }
      )
      yield* Effect.forEach(
        tunnels.slice(0, 20),
        ({ id }) => Effect.promise(() => server.operator.delete(`/api/tunnels/${id}`)),
        { concurrency: 10 }
      )
      const last = yield* server.newTunnel(agent.id)
      for (const { client, viewer } of viewers) {
        while (viewer.view?.tunnels[last.id] === undefined) viewer.apply(yield* client.next)
      }
      const fresh = yield* join(server.wsPort, "agent", agent.apiKey)
      const freshGateway = yield* join(server.wsPort, "gateway", gateway.apiKey)
      assert.deepStrictEqual(viewers[0]?.viewer.view, viewFromConfig(fresh.config.data))
      assert.deepStrictEqual(viewers[1]?.viewer.view, viewFromConfig(freshGateway.config.data))
    }))
})

type Client = Effect.Success<ReturnType<typeof join>>
type Taken = Effect.Success<Client["next"]>

/** The first message that matches; messages before it belong to earlier changes. */
const untilMessage = (client: Client, fits: (message: Taken) => boolean) => Effect.repeat(client.next, { until: fits })

/** The next delta, after the configs that the creation of other clients has caused. */
const untilDelta = (client: Client) => untilMessage(client, ({ type }) => type !== "config")
