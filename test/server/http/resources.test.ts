/** Agents, gateways, keys, tunnels and certificates over HTTP. */
import { wireguardPublicKey } from "#crypto/wireguardKeys.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import type { Api } from "#support/apiClient.ts"
import { issueCertificate } from "#support/certificates.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { SqlClient } from "effect/sql"

/** Runs requests of an operator. */
const asOperator = (steps: (operator: Api) => Promise<void>) =>
  Effect.flatMap(TestServer, ({ operator }) => Effect.promise(() => steps(operator)))

const code = (type: string) => `urn:control:problem:${type}`

layer(TestServer.layer(), { excludeTestServices: true })("agents", (it) => {
  it.effect("a new agent has its own subnet, and its API key is returned once", () =>
    asOperator(async (operator) => {
      const one = await operator.post("/api/agents", { name: "home" })
      const other = await operator.post("/api/agents", { name: "home 2" })
      assert.strictEqual(one.status, 201)
      assert.match(one.body.apiKey, /^ctl_agt_/u)
      assert.strictEqual(one.body.virtualIp, one.body.subnet.replace(".0/24", ".1"))
      assert.notStrictEqual(one.body.subnet, other.body.subnet)
      assert.deepInclude(one.body, { name: "home", status: "offline", lastSeenAt: null, session: null })
      const { apiKey: _, ...shown } = one.body
      const again = await operator.get(`/api/agents/${one.body.id}`)
      assert.strictEqual(again.status, 200)
      assert.deepStrictEqual(again.body, { ...shown, peers: [] })
    }))

  it.effect("the subnet of a deleted agent is reused", () =>
    asOperator(async (operator) => {
      const { body: agent } = await operator.post("/api/agents", { name: "first" })
      await operator.delete(`/api/agents/${agent.id}`)
      const { body: next } = await operator.post("/api/agents", { name: "second" })
      assert.strictEqual(next.subnet, agent.subnet)
    }))

  it.effect("a patch changes its fields and no others", () =>
    asOperator(async (operator) => {
      const { body: { apiKey: _, ...agent } } = await operator.post("/api/agents", { name: "shop" })
      const empty = await operator.patch(`/api/agents/${agent.id}`, {})
      assert.strictEqual(empty.status, 200)
      assert.deepStrictEqual(empty.body, agent)
      const renamed = await operator.patch(`/api/agents/${agent.id}`, { name: "office" })
      assert.deepStrictEqual({ ...renamed.body, updatedAt: "" }, { ...agent, name: "office", updatedAt: "" })
      assert.isAbove(Date.parse(renamed.body.updatedAt), Date.parse(agent.updatedAt))
    }))

  it.effect("an agent with tunnels is deleted only with cascade=true", () =>
    asOperator(async (operator) => {
      const { body: agent } = await operator.post("/api/agents", { name: "with tunnels" })
      const { body: tunnel } = await operator.post("/api/tunnels", {
        agentId: agent.id,
        domain: "with-agent.example.com",
        target: "localhost:80"
      })
      const kept = await operator.delete(`/api/agents/${agent.id}`)
      assert.deepInclude(kept.body, { status: 409, type: code("agent-has-tunnels") })
      assert.strictEqual((await operator.delete(`/api/agents/${agent.id}?cascade=false`)).status, 409)
      assert.strictEqual((await operator.delete(`/api/agents/${agent.id}?cascade=true`)).status, 204)
      assert.strictEqual((await operator.get(`/api/agents/${agent.id}`)).status, 404)
      assert.strictEqual((await operator.get(`/api/tunnels/${tunnel.id}`)).status, 404)
    }))

  it.effect("every endpoint of an unknown agent returns 404", () =>
    asOperator(async (operator) => {
      const path = "/api/agents/unknown-id"
      const answers = [
        await operator.get(path),
        await operator.patch(path, { name: "x" }),
        await operator.delete(path),
        await operator.delete(`${path}?cascade=true`),
        await operator.get(`${path}/keys`),
        await operator.post(`${path}/keys`),
        await operator.delete(`${path}/keys/x`)
      ]
      for (const { body } of answers) assert.deepInclude(body, { status: 404, type: code("agent-not-found") })
    }))

  it.effect("private keys are stored encrypted and match the public keys of the API", () =>
    Effect.gen(function*() {
      const { context, newAgent, operator } = yield* TestServer
      const { id } = yield* newAgent
      const shown = yield* Effect.promise(() => operator.get(`/api/agents/${id}`))
      const [row] = yield* Context.get(context, SqlClient.SqlClient)`
        select wireguard_private_key as key from agents where id = ${id}`
      const { cipher } = Context.get(context, Secrets)
      const location = { table: "agents", column: "wireguard_private_key", row: id }
      const privateKey = yield* Effect.fromResult(cipher.decrypt(String(row?.key), location))
      assert.strictEqual(wireguardPublicKey(privateKey), shown.body.wireguardPublicKey)
      assert.notInclude(String(row?.key), privateKey)
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("gateways", (it) => {
  it.effect("a gateway has port 51820 and no address by default", () =>
    asOperator(async (operator) => {
      const plain = await operator.post("/api/gateways", { name: "edge-1" })
      assert.deepInclude(plain.body, { publicIp: null, listenPort: 51_820, status: "offline" })
      assert.match(plain.body.apiKey, /^ctl_gw_/u)
      const explicit = await operator.post("/api/gateways", {
        name: "edge-2",
        publicIp: "2001:db8::7",
        listenPort: 443
      })
      assert.deepInclude(explicit.body, { publicIp: "2001:db8::7", listenPort: 443 })
    }))

  it.effect("the address of a gateway can be changed and cleared, and other patches keep it", () =>
    asOperator(async (operator) => {
      const { body: { id } } = await operator.post("/api/gateways", { name: "edge", publicIp: "203.0.113.7" })
      const path = `/api/gateways/${id}`
      assert.strictEqual((await operator.patch(path, { name: "rim" })).body.publicIp, "203.0.113.7")
      assert.strictEqual((await operator.patch(path, { publicIp: "203.0.113.8" })).body.publicIp, "203.0.113.8")
      assert.deepInclude((await operator.patch(path, { publicIp: null })).body, { publicIp: null, name: "rim" })
      assert.strictEqual((await operator.delete(path)).status, 204)
      assert.deepInclude((await operator.get(path)).body, { status: 404, type: code("gateway-not-found") })
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("API keys", (it) => {
  it.effect("a client has at most two live keys, and the first can be revoked", () =>
    asOperator(async (operator) => {
      for (const kind of ["agents", "gateways"]) {
        const { body: owner } = await operator.post(`/api/${kind}`, { name: "home" })
        const keys = `/api/${kind}/${owner.id}/keys`
        const first = (await operator.get(keys)).body.items[0].id
        const second = await operator.post(keys)
        assert.strictEqual(second.status, 201)
        assert.deepStrictEqual(Object.keys(second.body), ["id", "apiKey"])
        assert.deepInclude((await operator.post(keys)).body, { status: 409, type: code("too-many-keys") })
        assert.strictEqual((await operator.delete(`${keys}/${first}`)).status, 204)
        assert.deepInclude((await operator.delete(`${keys}/${first}`)).body, {
          status: 404,
          type: code("key-not-found")
        })
        const { body: { items, nextCursor } } = await operator.get(keys)
        assert.deepStrictEqual(items.map((key: object) => Object.keys(key)), [["id", "createdAt", "lastUsedAt"]])
        assert.strictEqual(items[0].id, second.body.id)
        assert.isNull(nextCursor)
      }
    }))

  it.effect("a key can be revoked only below the client that owns it", () =>
    asOperator(async (operator) => {
      const { body: owner } = await operator.post("/api/agents", { name: "owner" })
      const { body: other } = await operator.post("/api/agents", { name: "other" })
      const [{ id }] = (await operator.get(`/api/agents/${owner.id}/keys`)).body.items
      assert.strictEqual((await operator.delete(`/api/agents/${other.id}/keys/${id}`)).status, 404)
      assert.strictEqual((await operator.get(`/api/agents/${owner.id}/keys`)).body.items.length, 1)
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("tunnels", (it) => {
  it.effect("every change of a tunnel increments the revision, and a request without effect does not", () =>
    asOperator(async (operator) => {
      const { body: agent } = await operator.post("/api/agents", { name: "home" })
      const created = await operator.post("/api/tunnels", {
        agentId: agent.id,
        domain: "Bücher.Example.COM",
        target: "http://localhost:8080"
      })
      assert.strictEqual(created.status, 201)
      assert.deepInclude(created.body, {
        domain: "xn--bcher-kva.example.com",
        enabled: true,
        reported: null,
        agentId: agent.id
      })
      assert.isAbove(created.body.revision, 0)
      const path = `/api/tunnels/${created.body.id}`
      const changed = await operator.patch(path, { enabled: false })
      assert.strictEqual(changed.body.revision, created.body.revision + 1)
      assert.deepStrictEqual((await operator.patch(path, { enabled: false })).body, changed.body)
      assert.deepStrictEqual((await operator.patch(path, {})).body, changed.body)
      const { clients: _, ...shown } = (await operator.get(path)).body
      assert.deepStrictEqual(shown, changed.body)
      assert.strictEqual((await operator.delete(path)).status, 204)
      assert.deepInclude((await operator.delete(path)).body, { status: 404, type: code("tunnel-not-found") })
    }))

  it.effect("a tunnel needs an unused domain and an existing agent", () =>
    asOperator(async (operator) => {
      const { body: agent } = await operator.post("/api/agents", { name: "office" })
      const tunnel = { agentId: agent.id, domain: "taken.example.com", target: "localhost:1" }
      await operator.post("/api/tunnels", tunnel)
      const { body: other } = await operator.post("/api/tunnels", { ...tunnel, domain: "other.example.com" })
      const taken = { status: 409, type: code("domain-taken"), detail: "taken.example.com belongs to another tunnel" }
      assert.deepInclude((await operator.post("/api/tunnels", tunnel)).body, taken)
      assert.deepInclude(
        (await operator.patch(`/api/tunnels/${other.id}`, { domain: "TAKEN.example.com" })).body,
        taken
      )
      const noSuchAgent = { status: 422, type: code("no-such-agent") }
      assert.deepInclude(
        (await operator.post("/api/tunnels", { ...tunnel, domain: "new.example.com", agentId: "unknown-id" })).body,
        noSuchAgent
      )
      assert.deepInclude(
        (await operator.patch(`/api/tunnels/${other.id}`, { agentId: "unknown-id" })).body,
        noSuchAgent
      )
    }))

  it.effect("a tunnel can be moved to another agent", () =>
    asOperator(async (operator) => {
      const { body: from } = await operator.post("/api/agents", { name: "from" })
      const { body: to } = await operator.post("/api/agents", { name: "to" })
      const { body: tunnel } = await operator.post("/api/tunnels", {
        agentId: from.id,
        domain: "moves.example.com",
        target: "localhost:1"
      })
      assert.strictEqual((await operator.patch(`/api/tunnels/${tunnel.id}`, { agentId: to.id })).body.agentId, to.id)
      assert.strictEqual((await operator.delete(`/api/agents/${from.id}`)).status, 204)
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("certificates", (it) => {
  it.effect("a certificate can be stored for any domain, replaced and deleted, and is shown without its key", () =>
    asOperator(async (operator) => {
      const path = "/api/certificates/*.example.com"
      const first = issueCertificate({ names: ["*.example.com"] })
      const { expiresAt, ...withoutEnd } = issueCertificate({ names: ["*.example.com"] })
      const stored = await operator.put(path, first)
      assert.strictEqual(stored.status, 200)
      assert.deepStrictEqual(Object.keys(stored.body), [
        "domain",
        "certificate",
        "expiresAt",
        "source",
        "withheld",
        "createdAt",
        "updatedAt"
      ])
      assert.deepInclude(stored.body, {
        domain: "*.example.com",
        certificate: first.certificate,
        expiresAt: first.expiresAt,
        source: "admin",
        withheld: false
      })
      const replaced = await operator.put(path, withoutEnd)
      assert.deepInclude(replaced.body, { certificate: withoutEnd.certificate, expiresAt })
      assert.deepStrictEqual((await operator.get(path)).body, replaced.body)
      assert.deepStrictEqual((await operator.get("/api/certificates")).body.items, [replaced.body])
      assert.strictEqual((await operator.delete(path)).status, 204)
      assert.deepInclude((await operator.delete(path)).body, { status: 404, type: code("certificate-not-found") })
      assert.strictEqual((await operator.get(path)).status, 404)
    }))

  it.effect("an unusable certificate is rejected with the reason", () =>
    asOperator(async (operator) => {
      const issued = issueCertificate({ names: ["app.example.com"] })
      const rejected = await operator.put("/api/certificates/other.example.com", issued)
      assert.deepInclude(rejected.body, { status: 422, type: code("certificate-rejected") })
      assert.match(rejected.body.detail, /subjectAltName/u)
      const foreign = { ...issued, privateKey: issueCertificate({ names: ["app.example.com"] }).privateKey }
      assert.strictEqual((await operator.put("/api/certificates/app.example.com", foreign)).status, 422)
    }))
})
