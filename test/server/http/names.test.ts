/** Unique names, names in place of ids, suggestions, and filters of lists. */
import type { Api } from "#support/apiClient.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { SqlClient } from "effect/sql"

const code = (type: string) => `urn:control:problem:${type}`

/** A new network with the agents `home` and `Büro`, the gateway `edge-1` and a tunnel. */
const makeNetwork = async (operator: Api) => {
  const home = (await operator.post("/api/agents", { name: "home" })).body
  const office = (await operator.post("/api/agents", { name: "Büro" })).body
  const edge = (await operator.post("/api/gateways", { name: "edge-1", publicIp: "203.0.113.7" })).body
  const tunnel = { agentId: "home", domain: "app.example.com", target: "localhost:8080" }
  return { home, office, edge, tunnel: (await operator.post("/api/tunnels", tunnel)).body }
}

const names = (items: ReadonlyArray<{ readonly name?: string; readonly domain?: string }>) =>
  items.map(({ domain, name }) => name ?? domain)

layer(TestServer.layer(), { excludeTestServices: true })("names of agents and gateways", (it) => {
  it.effect("a taken name is rejected in any case, on creation and on change, and the problem names the holder", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      yield* Effect.promise(async () => {
        for (const kind of ["agents", "gateways"]) {
          const { body: holder } = await operator.post(`/api/${kind}`, { name: "Zuhause Ä" })
          const { body: other } = await operator.post(`/api/${kind}`, { name: "other" })
          const answers = [
            await operator.post(`/api/${kind}`, { name: "zuhause ä" }),
            await operator.patch(`/api/${kind}/${other.id}`, { name: "ZUHAUSE Ä" })
          ]
          for (const { body } of answers) {
            assert.deepInclude(body, { status: 409, type: code("name-taken") })
            assert.include(body.detail, `Zuhause Ä (${holder.id})`)
          }
          assert.strictEqual((await operator.get(`/api/${kind}/${other.id}`)).body.name, "other")
          // A client may change the case of its name, and its name is free again after it is renamed.
          assert.strictEqual((await operator.patch(`/api/${kind}/other`, { name: "OTHER" })).body.name, "OTHER")
          assert.strictEqual((await operator.patch(`/api/${kind}/other`, { name: "third" })).status, 200)
          assert.strictEqual((await operator.post(`/api/${kind}`, { name: "other" })).status, 201)
        }
      })
    }))

  it.effect("of 20 concurrent creations with one name exactly one succeeds", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      for (const kind of ["agents", "gateways"]) {
        const answers = yield* Effect.promise(() =>
          Promise.all(
            Array.from(
              { length: 20 },
              (_, index) => operator.post(`/api/${kind}`, { name: index % 2 === 0 ? "same" : "SAME" })
            )
          )
        )
        assert.deepStrictEqual(answers.map(({ status }) => status).toSorted(), [201, ...Array(19).fill(409)])
      }
    }))

  it.effect("a name that cannot stand in a path, or that looks like an id, is rejected for new names", () =>
    Effect.gen(function*() {
      const { context, operator } = yield* TestServer
      const sql = Context.get(context, SqlClient.SqlClient)
      yield* Effect.promise(async () => {
        const wrong = [
          ".",
          "..",
          "a/b",
          "/",
          " a",
          "a ",
          "a\u0000b",
          "a\nb",
          "a\\b",
          "",
          "390F0D29-3647-415d-9e0f-c719d8197158"
        ]
        for (const name of wrong) {
          for (const kind of ["agents", "gateways"]) {
            const { body } = await operator.post(`/api/${kind}`, { name })
            assert.deepInclude(body, { status: 400, type: code("invalid-request") }, JSON.stringify(name))
            assert.strictEqual(body.errors[0].path, "name")
          }
        }
        for (const name of ["a.b", "...", "名前", "%2e", "@x", "-x", "a b", "390f0d29"]) {
          const { body, status } = await operator.post("/api/agents", { name })
          assert.strictEqual(status, 201, name)
          assert.strictEqual((await operator.get(`/api/agents/${encodeURIComponent(name)}`)).body.id, body.id, name)
        }
      })
      // A name of an older version stays as it is, and its client is reached by its id.
      const { id } = (yield* Effect.promise(() => operator.post("/api/agents", { name: "older" }))).body
      yield* sql`update agents set name = 'a/b' where id = ${id}`
      assert.strictEqual((yield* Effect.promise(() => operator.get(`/api/agents/${id}`))).body.name, "a/b")
      assert.strictEqual((yield* Effect.promise(() => operator.patch(`/api/agents/${id}`, {}))).body.name, "a/b")
    }))

  it.effect("an id comes before an equal name", () =>
    Effect.gen(function*() {
      const { context, operator } = yield* TestServer
      const sql = Context.get(context, SqlClient.SqlClient)
      const { body: named } = yield* Effect.promise(() => operator.post("/api/gateways", { name: "twin" }))
      const { body: other } = yield* Effect.promise(() => operator.post("/api/gateways", { name: "with id twin" }))
      yield* sql`delete from api_keys where gateway_id = ${other.id}`
      yield* sql`update gateways set id = 'twin' where id = ${other.id}`
      assert.strictEqual((yield* Effect.promise(() => operator.get("/api/gateways/twin"))).body.name, "with id twin")
      assert.strictEqual((yield* Effect.promise(() => operator.get("/api/gateways/Twin"))).body.id, named.id)
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("names in place of ids", (it) => {
  it.effect("every path, body field and filter takes a name or an id, and tunnels also their domain", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      yield* Effect.promise(async () => {
        const { edge, home, office, tunnel } = await makeNetwork(operator)
        assert.strictEqual(tunnel.agentId, home.id)
        assert.strictEqual((await operator.get("/api/agents/HOME")).body.id, home.id)
        assert.strictEqual((await operator.get("/api/agents/b%C3%BCro")).body.id, office.id)
        assert.strictEqual((await operator.get("/api/gateways/edge-1")).body.id, edge.id)
        assert.strictEqual((await operator.get("/api/tunnels/app.example.com")).body.id, tunnel.id)
        assert.strictEqual((await operator.get("/api/tunnels/APP.Example.com")).body.id, tunnel.id)
        const serves = { agents: ["home", office.id], domains: [] }
        const scoped = await operator.patch("/api/gateways/edge-1", { serves })
        assert.deepStrictEqual(scoped.body.serves.agents, [home.id, office.id].toSorted())
        const moved = await operator.patch("/api/tunnels/app.example.com", { agentId: "büro" })
        assert.strictEqual(moved.body.agentId, office.id)
        assert.lengthOf((await operator.get("/api/tunnels?agent=B%C3%BCro")).body.items, 1)
        assert.lengthOf((await operator.get(`/api/tunnels?agent=${home.id}`)).body.items, 0)
        const key = await operator.post("/api/gateways/edge-1/keys")
        assert.strictEqual((await operator.get("/api/gateways/edge-1/keys")).body.items[1].id, key.body.id)
        assert.strictEqual((await operator.delete(`/api/gateways/edge-1/keys/${key.body.id}`)).status, 204)
        assert.lengthOf((await operator.get("/api/agents/home/keys")).body.items, 1)
        const audit = (await operator.get("/api/audit?entityId=app.example.com")).body.items
        assert.deepStrictEqual(audit.map(({ action }: { readonly action: string }) => action), [
          "tunnel.update",
          "tunnel.create"
        ])
        assert.strictEqual((await operator.delete("/api/tunnels/app.example.com")).status, 204)
        assert.strictEqual((await operator.delete("/api/gateways/Edge-1")).status, 204)
        assert.strictEqual((await operator.delete("/api/agents/home")).status, 204)
      })
    }))

  it.effect("an unknown name is answered with the name that was probably meant", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      yield* Effect.promise(async () => {
        await operator.post("/api/agents", { name: "home" })
        await makeNetwork(operator)
        const tunnel = { agentId: "hmoe", domain: "b.example.com", target: "localhost:1" }
        const answers = [
          [await operator.get("/api/agents/hone"), 404, "there is no agent hone; did you mean home?"],
          [await operator.patch("/api/agents/Hom", {}), 404, "there is no agent Hom; did you mean home?"],
          [await operator.get("/api/gateways/egde-1/keys"), 404, "there is no gateway egde-1; did you mean edge-1?"],
          [await operator.delete("/api/tunnels/ap.example.com"), 404, "did you mean app.example.com?"],
          [await operator.post("/api/tunnels", tunnel), 422, "there is no agent hmoe; did you mean home?"],
          [await operator.patch("/api/tunnels/app.example.com", { agentId: "hme" }), 422, "did you mean home?"],
          [await operator.get("/api/tunnels?agent=hme"), 422, "did you mean home?"],
          [
            await operator.patch("/api/gateways/edge-1", { serves: { agents: ["home", "Bürp"] } }),
            422,
            "serves.agents.1: there is no agent Bürp; did you mean Büro?"
          ]
        ] as const
        for (const [{ body, status }, expected, text] of answers) {
          assert.strictEqual(status, expected, text)
          assert.include(body.detail, text)
        }
        const { body } = await operator.get("/api/agents/quite-another-name")
        assert.strictEqual(body.detail, "there is no agent quite-another-name")
      })
    }))

  it.effect("filters combine with each other and with pages", () =>
    Effect.gen(function*() {
      const { context, joinAgent, newTunnel, operator } = yield* TestServer
      const sql = Context.get(context, SqlClient.SqlClient)
      const { id } = yield* joinAgent
      // No id begins with a z.
      const domains = ["z-1.shop.test", "z1.shop.test", "z2.shop.test", "b.shop.test"]
      yield* Effect.forEach(domains, (domain) => newTunnel(id, { domain, target: "inner_host:1" }))
      yield* sql`update tunnels set reported_status = 'active',
        reported_session = (select session_id from agents where id = agent_id) where domain like 'z%.shop.test'`
      const listed = (path: string) => Effect.promise(async () => names((await operator.get(path)).body.items))
      assert.deepStrictEqual(yield* listed("/api/tunnels?q=SHOP.test&status=active"), domains.slice(0, 3))
      assert.deepStrictEqual(yield* listed("/api/tunnels?domain=B.shop.test"), ["b.shop.test"])
      assert.deepStrictEqual(yield* listed("/api/tunnels?q=inner%25host"), [])
      assert.deepStrictEqual(yield* listed("/api/tunnels?q=inner_h&status=none"), [])
      const paged: Array<unknown> = []
      for (let cursor: string | null = ""; cursor !== null;) {
        const path: string = `/api/tunnels?agent=${id}&q=z&limit=1${cursor === "" ? "" : `&cursor=${cursor}`}`
        const { body } = yield* Effect.promise(() => operator.get(path))
        assert.lengthOf(body.items, 1)
        paged.push(...names(body.items))
        cursor = body.nextCursor
      }
      assert.deepStrictEqual(paged, domains.slice(0, 3))
      yield* Effect.promise(() => operator.post("/api/gateways", { name: "Rim", publicIp: "203.0.113.99" }))
      for (const query of ["name=rim", "q=RI", "q=203.0.113.99", "status=offline&q=rim"]) {
        assert.deepStrictEqual(yield* listed(`/api/gateways?${query}`), ["Rim"], query)
      }
      for (const query of ["name=ri", "q=203.0.113.9", "status=online"]) {
        assert.deepStrictEqual(yield* listed(`/api/gateways?${query}`), [], query)
      }
      for (const path of ["agents?status=up", "agents?name=", "tunnels?domain=no%20host", "tunnels?q=%00"]) {
        assert.strictEqual((yield* Effect.promise(() => operator.get(`/api/${path}`))).status, 400, path)
      }
    }))
})
