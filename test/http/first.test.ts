import * as Control from "#Control.ts"
import { api } from "#support/api.ts"
import { adminToken, testSettings } from "#support/database.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { HttpServer } from "effect/http"

layer(Control.layer.pipe(Layer.provideMerge(testSettings())), { excludeTestServices: true })("x", (it) => {
  it.effect("y", () => Effect.gen(function*() {
    const s = yield* HttpServer.HttpServer
    const port = "port" in s.address ? s.address.port : 0
    const a = api(`http://127.0.0.1:${port}`, adminToken)
    const show = (x: unknown) => console.log(JSON.stringify(x))
    yield* Effect.promise(async () => {
      const c = await a.post("/api/agents", { name: "home" }); show(c); show([...c.headers])
      show(await a.get("/api/agents"))
      show(await a.get(`/api/agents/${c.body.id}`))
      show(await a.get(`/api/agents/nope%00x`))
      show(await a.get(`/api/agents/nope`))
      show(await a.get(`/api/agents?limit=0&wait=x&cursor=zz`))
      show(await a.post(`/api/agents?wait=sent`, {name: "b"}))
      show(await a.post(`/api/agents`, {name: " b", x: 1, y: {z: 2}}))
      show(await a.post(`/api/agents`, "{bad"))
      show(await a.post(`/api/agents`, "x".repeat(1024*1024+1)))
      show(await a.post(`/api/agents`, "{}", {"content-type": "text/plain"}))
      show(await a.patch(`/api/agents/${c.body.id}`, {}))
      show(await a.patch(`/api/agents/${c.body.id}`, {name: "office"}))
      show(await api(`http://127.0.0.1:${port}`).post("/api/agents", "{bad"))
      show(await a.put(`/api/agents`, {}))
      show(await a.get(`/nothing`))
      const t = await a.post("/api/tunnels", {agentId: c.body.id, domain: "Bücher.Example.com", target: "localhost:80"}); show(t)
      show(await a.post("/api/tunnels", {agentId: c.body.id, domain: "Bücher.Example.com", target: "localhost:80"}))
      show(await a.post("/api/tunnels", {agentId: "x", domain: "a.Example.com", target: "localhost:80"}))
      show(await a.patch(`/api/tunnels/${t.body.id}`, {enabled: false}))
      show(await a.get(`/api/tunnels`))
      show(await a.delete(`/api/agents/${c.body.id}`))
      show(await a.post(`/api/agents/${c.body.id}/keys`))
      show(await a.post(`/api/agents/${c.body.id}/keys`))
      show(await a.get(`/api/agents/${c.body.id}/keys`))
      show(await a.delete(`/api/agents/${c.body.id}?cascade=true`))
      show(await a.post(`/api/gateways`, {name: "edge", publicIp: "203.0.113.7"}))
      show(await a.get(`/api/clients`))
      show(await a.get(`/healthz`)); show(await a.get(`/readyz`))
      console.log((await a.get(`/metrics`)).body)
      show((await a.get(`/docs`)).body.length)
      show((await a.get(`/openapi.json`)).body.info)
    })
  }))
})
