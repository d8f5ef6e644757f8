/** Addresses on which Control listens: IPv6 and IPv4 on one socket. */
import { PortUnavailable } from "#ingress/PortUnavailable.ts"
import { defaults, formatHostPort, listenOptions } from "#server/Settings.ts"
import { connect } from "#support/TestClient.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import { connect as connectTcp } from "node:net"

layer(TestServer.layer({ wsHost: "::", apiHost: "::", maxUnauthenticatedPerIp: 1 }), { excludeTestServices: true })(
  "listening on ::",
  (it) => {
    it.effect("both ports serve IPv4 and IPv6, and an IPv4 client is shown and counted as IPv4", () =>
      Effect.gen(function*() {
        const { apiUrl, newAgent, operator, wsPort } = yield* TestServer
        const apiPort = new URL(apiUrl).port
        for (const host of ["127.0.0.1", "[::1]"]) {
          const ready = yield* Effect.promise(() => fetch(`http://${host}:${apiPort}/healthz`))
          assert.strictEqual(ready.status, 200, host)
        }
        const overIpv6 = connect(wsPort, "", { createConnection: () => connectTcp({ port: wsPort, host: "::1" }) })
        yield* overIpv6
        yield* connect(wsPort)
        assert.include((yield* Effect.flip(connect(wsPort))).message, "503", "one address, one place")
        const client = yield* connect(wsPort, "", {
          createConnection: () => connectTcp({ port: wsPort, host: "127.0.0.1", localAddress: "127.0.0.2" })
        })
        client.send({ type: "auth", data: { apiKey: (yield* newAgent).apiKey } })
        yield* client.expect("auth_success")
        const clients = yield* Effect.promise(() => operator.get("/api/clients"))
        assert.strictEqual(clients.body.items[0].address, "127.0.0.2")
        const audit = yield* Effect.promise(() => operator.get("/api/audit?entityType=agent"))
        assert.strictEqual(audit.body.items[0].address, "127.0.0.1")
      }))
  }
)

it("Control listens on every address by default, and a URL has an IPv6 address in brackets", () => {
  assert.strictEqual(defaults.wsHost, "::")
  // Without a host Node falls back to 0.0.0.0 on a machine without IPv6.
  assert.deepStrictEqual(listenOptions("::", 3_001), { port: 3_001 })
  assert.deepStrictEqual(listenOptions("10.0.0.1", 3_001), { host: "10.0.0.1", port: 3_001 })
  assert.strictEqual(formatHostPort("::", 3_001), "[::]:3001")
  assert.strictEqual(formatHostPort("2001:db8::1", 3_001), "[2001:db8::1]:3001")
  assert.strictEqual(formatHostPort("control.example.com", 3_001), "control.example.com:3001")
  const refused = new PortUnavailable({ portName: "ws", host: "::1", port: 3_001, reason: "EADDRINUSE" })
  assert.include(refused.message, "on [::1]:3001: another process uses it")
})
