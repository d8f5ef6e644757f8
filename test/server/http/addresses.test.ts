/** The API rejects half-written addresses, and names the field and what is allowed. */
import { TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"

layer(TestServer.layer(), { excludeTestServices: true })("addresses in requests", (it) => {
  it.effect("targets, host names and public addresses that no resolver reads as written get 400", () =>
    Effect.gen(function*() {
      const { newAgent, newGateway, newTunnel, operator } = yield* TestServer
      const agent = yield* newAgent
      const tunnel = yield* newTunnel(agent.id)
      const gateway = yield* newGateway
      const ipv4 = "expected an IPv4 address of four numbers from 0 to 255"
      const targets = [
        ["999.1.1.1:80", ipv4],
        ["10.0.0.256:80", ipv4],
        ["1.2.3:80", ipv4],
        ["0x7f.1:80", ipv4],
        ["010.0.0.1:80", ipv4],
        ["localhost:0", "expected a port from 1 to 65535"],
        ["localhost:65536", "expected a port from 1 to 65535"],
        ["localhost:080", "expected a port from 1 to 65535"],
        ["[::1%eth0]:80", "expected an IPv6 address without a zone in brackets"],
        ["[1.2.3.4]:80", "expected an IPv6 address without a zone in brackets"],
        ["::1:80", "expected host:port"]
      ] as const
      for (const [target, message] of targets) {
        for (
          const response of yield* Effect.promise(() =>
            Promise.all([
              operator.post("/api/tunnels", { agentId: agent.id, domain: "new.example.com", target }),
              operator.patch(`/api/tunnels/${tunnel.id}`, { target })
            ])
          )
        ) {
          assert.strictEqual(response.status, 400, target)
          assert.include(JSON.stringify(response.body), message, target)
          assert.include(JSON.stringify(response.body), `"target"`, target)
        }
      }
      const others = [
        ["/api/gateways", { name: "g", publicIp: "10.0.0.256" }],
        ["/api/gateways", { name: "g", publicIp: "1.2.3" }],
        ["/api/gateways", { name: "g", publicIp: "fe80::1%eth0" }],
        ["/api/gateways", { name: "g", publicIp: "[::1]" }],
        ["/api/gateways", { name: "g", listenPort: 65_536 }],
        ["/api/gateways", { name: "g", listenPort: 0 }],
        ["/api/gateways", { name: "g", serves: { domains: ["0x7f.1"] } }],
        ["/api/tunnels", { agentId: agent.id, domain: "1.2.3", target: "a:1" }],
        ["/api/tunnels", { agentId: agent.id, domain: "a.0x7f", target: "a:1" }]
      ] as const
      for (const [path, body] of others) {
        const { status } = yield* Effect.promise(() => operator.post(path, body))
        assert.strictEqual(status, 400, JSON.stringify(body))
      }
      for (const target of ["[2001:db8::7]:8080", "http://10.0.0.255:1", "my_app:65535"]) {
        const { status } = yield* Effect.promise(() => operator.patch(`/api/tunnels/${tunnel.id}`, { target }))
        assert.strictEqual(status, 200, target)
      }
      const ipv6 = yield* Effect.promise(() =>
        operator.patch(`/api/gateways/${gateway.id}`, { publicIp: "2001:db8::7" })
      )
      assert.strictEqual(ipv6.body.publicIp, "2001:db8::7")
    }))
})
