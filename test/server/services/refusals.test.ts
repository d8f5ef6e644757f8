/** Refused logins, admin tokens and certificates: what the client, the operator and the audit learn. */
import { generateWireguardKeyPair } from "#crypto/wireguardKeys.ts"
import { makeRefusals } from "#events/refusals.ts"
import { api } from "#support/apiClient.ts"
import { makeServer, TestServer } from "#support/TestServer.ts"
import { connect, joinV1, type TestClient } from "#support/TestClient.ts"
import { assert, it, layer } from "@effect/vitest"
import { Effect, Logger, References } from "effect"
import { TestClock } from "effect/testing"

const metricOf = (apiUrl: string, labels: RegExp) =>
  Effect.promise(async () => {
    const text = String((await api(apiUrl).get("/metrics")).body)
    const line = text.split("\n").find((line) => line.startsWith("control_refused_total") && labels.test(line))
    return Number(line?.split(" ").at(-1) ?? 0)
  })

layer(TestServer.layer(), { excludeTestServices: true })("refusals", (it) => {
  it.effect("an auth whose key cannot be a key gets auth_error and 4401 at both levels, and is counted", () =>
    Effect.gen(function*() {
      const { apiUrl, wsPort } = yield* TestServer
      for (const protocols of [[], ["control.v1"]]) {
        for (const data of [{ apiKey: "" }, { apiKey: "k".repeat(513) }, { apiKey: 7 }, { apiKey: null }, {}]) {
          const client = yield* connect(wsPort, "?type=agent", { protocols })
          client.send({ type: "auth", data })
          assert.deepStrictEqual((yield* client.expect("auth_error")).data, { message: "Invalid API key" })
          assert.strictEqual((yield* client.closed).code, 4401)
        }
      }
      assert.strictEqual(yield* metricOf(apiUrl, /reason="malformed_key".*type="agent"/u), 10)
    }))

  it.effect("an auth with a possible key and another invalid field still gets invalid_message", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { apiKey } = yield* server.newGateway
      const client = yield* connect(server.wsPort, "?type=gateway")
      client.send({ type: "auth", data: { apiKey, publicIp: "no address" } })
      assert.strictEqual((yield* client.expect("error")).data["code"], "invalid_message")
      client.send({ type: "auth", data: { apiKey } })
      yield* client.expect("auth_success")
    }))

  it.effect("a client may change its key or address 10 times in a row, and may always return with the stored ones", () =>
    Effect.gen(function*() {
      const { apiUrl, newAgent, newGateway, operator, wsPort } = yield* TestServer
      const login = Effect.fnUntraced(function*(type: "agent" | "gateway", data: object) {
        const client = yield* connect(wsPort, `?type=${type}`, { protocols: ["control.v1"] })
        client.send({ type: "auth", data })
        return (yield* client.next).data
      })
      const refused = { message: "Too many sessions", code: "rate_limited", retryAfterMs: 60_000 }
      const [agent, gateway] = [yield* newAgent, yield* newGateway]
      // A write of the operator returns when the feed has read the changes of the logins before it.
      const caughtUp = Effect.promise(() => operator.patch(`/api/agents/${agent.id}`, {}))
      const keys = Array.from({ length: 11 }, () => generateWireguardKeyPair().publicKey)
      const answers = yield* Effect.forEach(
        keys,
        (wireguardPublicKey) => login("agent", { apiKey: agent.apiKey, wireguardPublicKey })
      )
      assert.deepStrictEqual(answers.filter(({ resumed }) => resumed === false).length, 10)
      assert.deepStrictEqual(answers.at(-1), refused)
      yield* caughtUp
      const stored = yield* login("agent", { apiKey: agent.apiKey, wireguardPublicKey: keys[9] })
      assert.isFalse(stored["resumed"])

      const addresses = keys.map((_, index) => `203.0.113.${index + 1}`)
      const moves = yield* Effect.forEach(
        addresses,
        (publicIp) => login("gateway", { apiKey: gateway.apiKey, publicIp })
      )
      assert.deepStrictEqual(moves.at(-1), refused)
      yield* caughtUp
      assert.isFalse((yield* login("gateway", { apiKey: gateway.apiKey, publicIp: addresses[9] }))["resumed"])
      assert.strictEqual(yield* metricOf(apiUrl, /reason="too_many_changes".*type="agent"/u), 1)

      const { body } = yield* Effect.promise(() => operator.get(`/api/audit?entityId=${agent.id}`))
      const [change] = body.items
      assert.deepInclude(change, { actor: `agent:${agent.id}`, address: "127.0.0.1", action: "agent.update" })
      assert.include(change.fields, "wireguard_public_key")
    }))

  it.effect("a client over the session limit learns it at each level, and for control.v1 when to return", () =>
    Effect.gen(function*() {
      const { apiUrl, newAgent, wsPort } = yield* TestServer
      const { apiKey } = yield* newAgent
      const loginUntilRefused = Effect.fnUntraced(function*(protocols: ReadonlyArray<string>) {
        while (true) {
          const client: TestClient = yield* connect(wsPort, "?type=agent", { protocols })
          client.send({ type: "auth", data: { apiKey } })
          const answer = yield* client.next
          if (answer.type === "auth_error") return { data: answer.data, code: (yield* client.closed).code }
        }
      })
      assert.deepStrictEqual(yield* loginUntilRefused(["control.v1"]), {
        code: 4429,
        data: { message: "Too many sessions", code: "rate_limited", retryAfterMs: 60_000 }
      })
      assert.deepStrictEqual(yield* loginUntilRefused([]), { code: 4429, data: { message: "Too many sessions" } })
      assert.isAtLeast(yield* metricOf(apiUrl, /reason="too_many_sessions".*type="agent"/u), 2)
    }))

  it.effect("a client that floods gets a last error that says so, and is counted", () =>
    Effect.gen(function*() {
      const { apiUrl, newAgent, wsPort } = yield* TestServer
      const client = yield* joinV1(wsPort, "agent", (yield* newAgent).apiKey)
      yield* client.expect("config")
      for (let sent = 0; sent < 1_000; sent += 1) client.send({ type: "hello", data: {} })
      assert.strictEqual((yield* client.closed).code, 4429)
      const texts: Array<string> = []
      while (client.unread() > 1) texts.push((yield* client.next).data["message"])
      assert.match(texts.at(-1) ?? "", /the connection is closed, reconnect after a minute/u)
      assert.strictEqual(yield* metricOf(apiUrl, /reason="too_many_messages".*type="agent"/u), 1)
    }))

  it.effect("refused admin tokens are counted, and one address gets one audit entry, without the token", () =>
    Effect.gen(function*() {
      const { apiUrl, operator } = yield* TestServer
      const guess = "ctl_adm_guess_0123456789"
      for (let attempt = 0; attempt < 5; attempt += 1) {
        assert.strictEqual((yield* Effect.promise(() => api(apiUrl, guess).get("/api/agents"))).status, 401)
      }
      assert.strictEqual((yield* Effect.promise(() => api(apiUrl).get("/api/agents"))).status, 401)
      const { items } = yield* Effect.repeat(
        Effect.promise(async () => (await operator.get("/api/audit?entityType=refused_token")).body),
        { until: ({ items }) => items.length > 0 }
      )
      assert.lengthOf(items, 1)
      assert.deepInclude(items[0], { actor: "unknown", address: "127.0.0.1", action: "refused_token.create" })
      assert.notInclude(JSON.stringify(items), guess)
      assert.strictEqual(yield* metricOf(apiUrl, /kind="token".*reason="unknown_token"/u), 5)
      assert.strictEqual(yield* metricOf(apiUrl, /kind="token".*reason="missing_token"/u), 1)
    }))

  it.effect("a refused certificate is counted", () =>
    Effect.gen(function*() {
      const { apiUrl, joinGateway } = yield* TestServer
      const { client } = yield* joinGateway()
      const certificate = { certificate: "no PEM", privateKey: "no PEM", expiresAt: "2027-01-01T00:00:00Z" }
      client.send({ type: "certificate_obtained", data: { domain: "app.example.com", ...certificate } })
      assert.strictEqual((yield* client.expect("error")).data["code"], "certificate_rejected")
      assert.strictEqual(yield* metricOf(apiUrl, /kind="certificate".*type="gateway"/u), 1)
    }))
})

it.effect("a flood of refusals is one line of each reason in 10 s, with the number of the others", () =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const logger = Logger.layer([Logger.make(({ message }) => lines.push(String(message)))])
    const refuse = makeRefusals()
    const login = (reason: string) =>
      refuse({ kind: "login", reason, type: "agent", text: `from 192.0.2.1: ${reason}` })
    yield* Effect.gen(function*() {
      for (let attempt = 0; attempt < 100; attempt += 1) yield* login("unknown_key")
      yield* login("malformed_key")
      yield* TestClock.adjust("10 seconds")
      yield* login("unknown_key")
    }).pipe(Effect.provide(logger), Effect.provideService(References.MinimumLogLevel, "All"))
    assert.deepStrictEqual(lines, [
      "refused a login from 192.0.2.1: unknown_key",
      "refused a login from 192.0.2.1: malformed_key",
      "refused a login from 192.0.2.1: unknown_key; 99 more since the line before"
    ])
  }))

it.live("guesses from many addresses write a bounded number of audit entries", () =>
  Effect.gen(function*() {
    const loopback = { address: "127.0.0.0", length: 8, family: "ipv4" } as const
    const { apiUrl, operator } = yield* makeServer({ trustedProxies: [loopback] })
    const guess = (address: string) => api(apiUrl, "wrong").get("/api/agents", { "x-forwarded-for": address })
    for (let n = 1; n <= 60; n += 1) yield* Effect.promise(() => guess(`192.0.2.${n}`))
    const audited = Effect.promise(async () =>
      (await operator.get("/api/audit?entityType=refused_token&limit=100")).body.items.length as number
    )
    yield* Effect.repeat(audited, { until: (count) => count >= 20 })
    assert.strictEqual(yield* audited, 20)
  }).pipe(Effect.scoped))
