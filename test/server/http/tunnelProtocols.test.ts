/** Protocols, names and public ports of tunnels over HTTP. */
import { Network } from "#feed/Network.ts"
import { issueCertificate } from "#support/certificates.ts"
import type { Api } from "#support/apiClient.ts"
import { join, joinV1, type TestClient } from "#support/TestClient.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"

const code = (type: string) => `urn:control:problem:${type}`

let names = 0

/** Runs requests of an operator about the tunnels of a new agent. */
const withAgent = (steps: (operator: Api, agentId: string) => Promise<void>) =>
  Effect.gen(function*() {
    const { newAgent, operator } = yield* TestServer
    const { id } = yield* newAgent
    yield* Effect.promise(() => steps(operator, id))
  })

const tcp = (agentId: string, more: object = {}) => ({
  agentId,
  name: `game ${names += 1}`,
  protocol: "tcp",
  listenPort: 30_000 + names,
  target: "localhost:25565",
  ...more
})

layer(TestServer.layer(), { excludeTestServices: true })("protocols of tunnels", (it) => {
  it.effect("an http tunnel has a port and the defaults of the other fields", () =>
    withAgent(async (operator, agentId) => {
      const { body } = await operator.post("/api/tunnels", { agentId, domain: "a.example.com", target: "h:1" })
      assert.deepInclude(body, {
        port: 20_000,
        protocol: "http",
        name: null,
        listenPort: null,
        proxyProtocol: "none",
        tls: "verify"
      })
      const other = await operator.post("/api/tunnels", { agentId, domain: "b.example.com", target: "h:1" })
      assert.strictEqual(other.body.port, 20_001)
    }))

  it.effect("a tcp tunnel needs no domain, is found by its name, and shares a DNS name with others", () =>
    withAgent(async (operator, agentId) => {
      const game = tcp(agentId, { name: "Minecraft" })
      const { body, status } = await operator.post("/api/tunnels", game)
      assert.strictEqual(status, 201)
      assert.deepInclude(body, { domain: null, listenPort: game.listenPort, protocol: "tcp", name: "Minecraft" })
      assert.strictEqual((await operator.get("/api/tunnels/minecraft")).body.id, body.id)
      assert.lengthOf((await operator.get("/api/tunnels?name=MINECRAFT&protocol=tcp")).body.items, 1)
      assert.lengthOf((await operator.get("/api/tunnels?q=mineCR")).body.items, 1)
      assert.lengthOf((await operator.get("/api/tunnels?name=minecraft&protocol=udp")).body.items, 0)
      assert.include((await operator.get("/api/tunnels/minecarft")).body.detail, "did you mean Minecraft?")
      for (const more of [{ domain: "play.example.com" }, { domain: "play.example.com" }]) {
        assert.strictEqual((await operator.post("/api/tunnels", tcp(agentId, more))).status, 201)
      }
      // The domain of tcp tunnels names none of them.
      assert.strictEqual((await operator.get("/api/tunnels/play.example.com")).status, 404)
      const web = await operator.post("/api/tunnels", { agentId, domain: "play.example.com", target: "h:1" })
      assert.strictEqual((await operator.get("/api/tunnels/play.example.com")).body.id, web.body.id)
      const hijack = await operator.post("/api/tunnels", tcp(agentId, { name: "play.example.com" }))
      assert.strictEqual(hijack.status, 201)
      assert.strictEqual((await operator.get("/api/tunnels/play.example.com")).body.id, web.body.id)
    }))

  it.effect("a request whose fields do not fit together is rejected with the field", () =>
    withAgent(async (operator, agentId) => {
      const web = { agentId, domain: "web.example.com", target: "h:1" }
      const cases: ReadonlyArray<readonly [object, string, string]> = [
        [{ agentId, target: "h:1" }, "domain", "expected a domain"],
        [{ ...web, protocol: "tls", domain: null }, "domain", "expected a domain"],
        [{ ...web, listenPort: 1 }, "listenPort", "expected no listenPort"],
        [tcp(agentId, { listenPort: null }), "listenPort", "expected a public port for tcp"],
        [tcp(agentId, { listenPort: 443 }), "listenPort", "80 and 443"],
        [tcp(agentId, { listenPort: 0 }), "listenPort", ""],
        [tcp(agentId, { name: null }), "name", "expected a name"],
        [tcp(agentId, { name: "a/b" }), "name", ""],
        [tcp(agentId, { target: "http://h:1" }), "target", "without http://"],
        [{ ...web, protocol: "tls", target: "https://h:1" }, "target", "without https://"],
        [{ ...web, proxyProtocol: "v1" }, "proxyProtocol", "v1 and v2 are for tcp and tls"],
        [{ ...web, proxyProtocol: "v3" }, "proxyProtocol", ""],
        [{ ...web, protocol: "sctp" }, "protocol", ""],
        [{ ...web, port: 20_000 }, "port", ""]
      ]
      for (const [body, path, message] of cases) {
        const response = await operator.post("/api/tunnels", body)
        assert.strictEqual(response.status, 400, JSON.stringify(body))
        assert.strictEqual(response.body.errors[0].path, path, JSON.stringify(response.body))
        assert.include(response.body.errors[0].message, message)
      }
    }))

  it.effect("an https target with an address or localhost needs a choice between verify and insecure", () =>
    withAgent(async (operator, agentId) => {
      for (const host of ["localhost", "192.0.2.1", "[2001:db8::1]"]) {
        const tunnel = { agentId, domain: `t${names += 1}.example.com`, target: `https://${host}:8443` }
        const { body } = await operator.post("/api/tunnels", tunnel)
        assert.strictEqual(body.errors?.[0].path, "tls", host)
        assert.match(body.errors[0].message, /insecure or verify/u)
        assert.strictEqual((await operator.post("/api/tunnels", { ...tunnel, tls: "verify" })).status, 201)
      }
      const named = { agentId, domain: "named.example.com", target: "https://service.lan:8443" }
      assert.strictEqual((await operator.post("/api/tunnels", named)).body.tls, "verify")
      const path = "/api/tunnels/named.example.com"
      const refused = await operator.patch(path, { target: "https://127.0.0.1:8443" })
      assert.deepInclude(refused.body, { status: 422, type: code("tunnel-rejected") })
      assert.include(refused.body.detail, "tls: expected insecure or verify")
      const chosen = { target: "https://127.0.0.1:8443", tls: "insecure" }
      assert.strictEqual((await operator.patch(path, chosen)).status, 200)
      assert.strictEqual((await operator.patch(path, { target: "https://127.0.0.2:8443" })).body.tls, "insecure")
    }))

  it.effect("a name and a public port belong to one tunnel, and tcp and udp have separate ports", () =>
    withAgent(async (operator, agentId) => {
      const game = tcp(agentId)
      await operator.post("/api/tunnels", game)
      const twin = await operator.post("/api/tunnels", tcp(agentId, { listenPort: game.listenPort }))
      assert.deepInclude(twin.body, { status: 409, type: code("listen-port-taken") })
      assert.include(twin.body.detail, String(game.listenPort))
      const named = await operator.post("/api/tunnels", tcp(agentId, { name: game.name.toUpperCase() }))
      assert.deepInclude(named.body, { status: 409, type: code("name-taken") })
      const udp = await operator.post(
        "/api/tunnels",
        tcp(agentId, { protocol: "udp", listenPort: game.listenPort })
      )
      assert.strictEqual(udp.status, 201)
      assert.strictEqual((await operator.patch(`/api/tunnels/${udp.body.id}`, { protocol: "tcp" })).status, 409)
    }))

  it.effect("a patch is checked with the fields that it keeps", () =>
    withAgent(async (operator, agentId) => {
      const { body: { id } } = await operator.post("/api/tunnels", tcp(agentId))
      const path = `/api/tunnels/${id}`
      for (
        const [patch, detail] of [
          [{ protocol: "http" }, "domain: expected a domain"],
          [{ protocol: "http", domain: "x.example.com" }, "listenPort: expected no listenPort"],
          [{ name: null }, "name: expected a name"],
          [{ listenPort: 80 }, "listenPort: expected another port"],
          [{ protocol: "udp", proxyProtocol: "v2" }, "proxyProtocol: expected none for udp"],
          [{ target: "http://h:1" }, "target: expected host:port"]
        ] as const
      ) {
        const { body } = await operator.patch(path, patch)
        assert.deepInclude(body, { status: 422, type: code("tunnel-rejected") }, JSON.stringify(patch))
        assert.include(body.detail, detail)
      }
      const web = await operator.patch(path, { protocol: "http", domain: "was-tcp.example.com", listenPort: null })
      assert.deepInclude(web.body, { protocol: "http", listenPort: null, port: 20_000 })
    }))
})

/** The messages of a client up to the answer to a message of an unknown type, without configs. */
const untilAnswer = (client: TestClient) =>
  Effect.gen(function*() {
    client.send({ type: "probe", data: {} })
    const messages: Array<{ readonly type: string; readonly data: Record<string, unknown> }> = []
    while (true) {
      const message = yield* client.next
      if (message.type === "error") return messages
      if (message.type !== "config") messages.push(message)
    }
  })

layer(TestServer.layer(), { excludeTestServices: true })("tunnels at both protocol levels", (it) => {
  it.effect("control.v1 has every tunnel with all fields and the MTU; the plain level has http tunnels as before", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.newAgent
      const web = yield* server.newTunnel(agent.id)
      const game = yield* Effect.promise(() => server.operator.post("/api/tunnels", tcp(agent.id)))
      yield* Context.get(server.context, Network).catchUp
      const plain = yield* join(server.wsPort, "agent", agent.apiKey)
      assert.notProperty(plain.config.data, "mtu")
      assert.deepStrictEqual(plain.config.data.tunnels, [
        { id: web.id, domain: web.domain, target: "localhost:8080", enabled: true }
      ])
      const gateway = yield* server.joinGateway()
      assert.deepStrictEqual(gateway.client.config.data.tunnels.map((row: object) => Object.keys(row)), [
        ["id", "domain", "agentVirtualIp", "target", "enabled"]
      ])
      const v1 = yield* joinV1(server.wsPort, "agent", agent.apiKey)
      const { data } = yield* v1.expect("config")
      assert.strictEqual(data["mtu"], 1_280)
      const seen = (data["tunnels"] as ReadonlyArray<{ readonly id: string }>).find(({ id }) => id === game.body.id)
      assert.deepStrictEqual(seen as object, {
        id: game.body.id,
        domain: "",
        target: "localhost:25565",
        enabled: true,
        name: game.body.name,
        protocol: "tcp",
        port: 20_001,
        listenPort: game.body.listenPort,
        proxyProtocol: "none",
        tls: "verify"
      })
    }))

  it.effect("a change of protocol is a deletion or a creation at the plain level, and an update in control.v1", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const tunnel = yield* server.newTunnel((yield* server.newAgent).id)
      const plain = (yield* server.joinGateway()).client
      const other = yield* server.newGateway
      const v1 = yield* joinV1(server.wsPort, "gateway", other.apiKey)
      yield* v1.expect("config")
      const path = `/api/tunnels/${tunnel.id}?wait=sent`
      for (
        const patch of [
          { protocol: "tls" },
          { proxyProtocol: "v2" },
          { protocol: "http", proxyProtocol: "none" },
          { name: "web" }
        ]
      ) {
        const { status } = yield* Effect.promise(() => server.operator.patch(path, patch))
        assert.strictEqual(status, 200, JSON.stringify(patch))
      }
      const types = (client: TestClient) =>
        Effect.map(untilAnswer(client), (messages) => messages.map(({ type }) => type))
      assert.deepStrictEqual(yield* types(plain), ["tunnel_delete", "tunnel_create"])
      assert.deepStrictEqual(yield* types(v1), Array.from({ length: 4 }, () => "tunnel_update"))
    }))

  it.effect("a limited gateway gets certificates for its http tunnels only", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { id: agentId } = yield* server.newAgent
      const domain = "secret.example.com"
      const gateway = yield* server.newGateway
      yield* Effect.promise(async () => {
        await server.operator.patch(`/api/gateways/${gateway.id}`, { serves: { agents: [agentId], domains: [] } })
        await server.operator.put(`/api/certificates/${domain}`, issueCertificate({ names: [domain] }))
        await server.operator.post("/api/tunnels", tcp(agentId, { domain, name: "dns only" }))
      })
      yield* Context.get(server.context, Network).catchUp
      const client = yield* joinV1(server.wsPort, "gateway", gateway.apiKey)
      assert.deepStrictEqual((yield* client.expect("config")).data["certificates"], [])
      const { body: web } = yield* Effect.promise(() =>
        server.operator.post("/api/tunnels?wait=sent", { agentId, domain, target: "localhost:1" })
      )
      // The tunnel and its certificate change the view at one revision, so that a config replaces the deltas.
      const domains = Effect.map(client.expect("config"), ({ data }) =>
        (data["certificates"] as ReadonlyArray<{ readonly domain: string }>).map((row) => row.domain))
      assert.deepStrictEqual(yield* domains, [domain])
      yield* Effect.promise(() =>
        server.operator.patch(`/api/tunnels/${web.id}?wait=sent`, { protocol: "tls" })
      )
      assert.deepStrictEqual(yield* domains, [])
    }))
})
