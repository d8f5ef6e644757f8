/** Both ports behind a TCP load balancer: client addresses and closed connections. */
import { adminToken } from "#support/testDatabase.ts"
import {
  balancer,
  connectThroughProxy,
  type Endpoint,
  sendPieces,
  trustedProxies,
  v1,
  v1Unknown,
  v2,
  v2Local,
  v2Raw
} from "#support/proxyHeaders.ts"
import { sendGet } from "#support/rawHttp.ts"
import { TestServer } from "#support/TestServer.ts"
import { connect } from "#support/TestClient.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { randomBytes } from "node:crypto"
import { connect as connectTcp } from "node:net"

const on = { proxyProtocol: "both" as const, ...trustedProxies(balancer) }
const client = (address: string): Endpoint => ({ address, port: 4_711 })
const untrusted = "127.0.0.1"

const ports = Effect.map(TestServer, ({ apiUrl, wsPort }) => ({ ws: wsPort, api: Number(new URL(apiUrl).port) }))

const request = (path: string, headers: ReadonlyArray<string> = []) =>
  Buffer.from([`GET ${path} HTTP/1.1`, "Host: localhost", "Connection: close", ...headers, "", ""].join("\r\n"))

const upgradeRequest = (...headers: ReadonlyArray<string>) =>
  Buffer.from(
    [
      "GET / HTTP/1.1",
      "Host: localhost",
      "Connection: Upgrade",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
      ...headers,
      "",
      ""
    ].join("\r\n")
  )

/** Connects an agent through the balancer, and returns its address according to /api/clients. */
const addressSeen = Effect.fnUntraced(function*(header: Buffer, headers: Readonly<Record<string, string>> = {}) {
  const server = yield* TestServer
  const agent = yield* server.newAgent
  const socket = yield* connect(server.wsPort, "", {
    createConnection: connectThroughProxy(server.wsPort, header),
    headers
  })
  socket.send({ type: "auth", data: { apiKey: agent.apiKey } })
  yield* socket.expect("auth_success")
  const { body } = yield* Effect.promise(() => server.operator.get("/api/clients"))
  return body.items.find((item: { readonly clientId: string }) => item.clientId === agent.id)?.address
})

const each = (bytes: Buffer) => [...bytes].map((byte) => Buffer.from([byte]))

layer(TestServer.layer({ ...on, ...trustedProxies(balancer, "198.51.100.1") }), { excludeTestServices: true })(
  "behind a balancer",
  (it) => {
    it.effect("a client has the address of its PROXY header, for both versions and address families", () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* addressSeen(v1(client("203.0.113.1"))), "203.0.113.1")
        assert.strictEqual(yield* addressSeen(v1(client("2001:db8::2"))), "2001:db8::2")
        assert.strictEqual(yield* addressSeen(v2(client("203.0.113.3"), Buffer.alloc(4_000))), "203.0.113.3")
        assert.strictEqual(yield* addressSeen(v2(client("2001:db8::4"))), "2001:db8::4")
      }))

    it.effect("the audit log has the operator's address of the PROXY header", () =>
      Effect.gen(function*() {
        const { operator } = yield* TestServer
        const { api } = yield* ports
        const body = JSON.stringify({ name: "seen" })
        const lines = [
          "POST /api/agents HTTP/1.1",
          "Host: localhost",
          "Connection: close",
          "Content-Type: application/json",
          `Content-Length: ${body.length}`,
          `Authorization: Bearer ${adminToken}`,
          "",
          body
        ]
        const header = v2(client("203.0.113.5"))
        const answer = yield* sendPieces(api, balancer, Buffer.concat([header, Buffer.from(lines.join("\r\n"))]))
        assert.strictEqual(answer.status, 201)
        const audit = yield* Effect.promise(() => operator.get("/api/audit"))
        assert.include(JSON.stringify(audit.body), "203.0.113.5")
      }))

    it.effect("X-Forwarded-For is believed only if the address in the PROXY header is a trusted proxy", () =>
      Effect.gen(function*() {
        const forwarded = { "X-Forwarded-For": "192.0.2.77" }
        assert.strictEqual(yield* addressSeen(v2(client("198.51.100.1")), forwarded), "192.0.2.77", "a trusted proxy")
        assert.strictEqual(
          yield* addressSeen(v2(client("203.0.113.6")), forwarded),
          "203.0.113.6",
          "an untrusted address"
        )
        for (const header of [v1Unknown, v2Local, v2Raw(0x21, 0x00, Buffer.alloc(0))]) {
          assert.strictEqual(yield* addressSeen(header, forwarded), balancer, "the client is unknown")
        }
      }))

    it.effect("a PROXY header may arrive byte by byte or together with the request", () =>
      Effect.gen(function*() {
        const { api, ws } = yield* ports
        for (const header of [v1(client("203.0.113.7")), v2(client("2001:db8::7"), randomBytes(9)), v1Unknown]) {
          for (
            const [port, requestBytes, status] of [[api, request("/healthz"), 200], [
              ws,
              upgradeRequest(),
              101
            ]] as const
          ) {
            const bytes = Buffer.concat([header, requestBytes])
            for (
              const pieces of [[bytes], each(bytes), [...each(header), requestBytes], [header, ...each(requestBytes)]]
            ) {
              assert.strictEqual((yield* sendPieces(port, balancer, ...pieces)).status, status)
            }
          }
        }
      }))

    it.effect("later requests on the same connection need no header", () =>
      Effect.gen(function*() {
        const { api } = yield* ports
        const keep = Buffer.from("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        const answer = yield* sendPieces(api, balancer, v1(client("203.0.113.8")), keep, keep, request("/healthz"))
        assert.strictEqual(answer.status, 200)
      }))

    it.effect("both ports close a connection of the balancer without a header, and send no response", () =>
      Effect.gen(function*() {
        const { api, ws } = yield* ports
        const malformed = v2Raw(0x21, 0x12, Buffer.alloc(12))
        for (const [port, requestBytes] of [[api, request("/healthz")], [ws, upgradeRequest()]] as const) {
          const answer = yield* sendPieces(port, balancer, requestBytes)
          assert.deepStrictEqual(answer, { status: 0, head: "", body: "" })
          assert.strictEqual((yield* sendPieces(port, balancer, Buffer.concat([malformed, requestBytes]))).status, 0)
          const two = Buffer.concat([v1(client("203.0.113.9")), v1(client("203.0.113.9")), requestBytes])
          assert.strictEqual((yield* sendPieces(port, balancer, two)).status, 400, "a second header is not HTTP")
        }
      }))

    it.effect("a header from an untrusted address is rejected, and connections without one still work", () =>
      Effect.gen(function*() {
        const { api, ws } = yield* ports
        for (const header of [v1(client("203.0.113.9")), v2(client("203.0.113.9")), v2Local, v1Unknown]) {
          for (const [port, requestBytes] of [[api, request("/healthz")], [ws, upgradeRequest()]] as const) {
            assert.strictEqual((yield* sendPieces(port, untrusted, Buffer.concat([header, requestBytes]))).status, 0)
            assert.strictEqual((yield* sendPieces(port, untrusted, ...each(header), requestBytes)).status, 0)
          }
        }
        for (const path of ["/healthz", "/readyz", "/metrics"]) {
          assert.strictEqual((yield* sendGet(api, path)).status, 200, path)
        }
        assert.strictEqual((yield* sendPieces(ws, untrusted, upgradeRequest())).status, 101)
        const { joinAgent, operator } = yield* TestServer
        const { id } = yield* joinAgent
        const { body } = yield* Effect.promise(() => operator.get("/api/clients"))
        assert.strictEqual(
          body.items.find((item: { readonly clientId: string }) => item.clientId === id)?.address,
          untrusted
        )
      }))

    it.effect("random bytes from any address disturb no other connection", () =>
      Effect.gen(function*() {
        const { api, ws } = yield* ports
        const beginnings = [
          Buffer.alloc(0),
          v2Local.subarray(0, 12),
          v2Local.subarray(0, 14),
          Buffer.from("PROXY TCP4 ")
        ]
        yield* Effect.forEach(Array.from({ length: 400 }, (_, index) => index), (index) => {
          const bytes = Buffer.concat([beginnings[index % 4] ?? Buffer.alloc(0), randomBytes(1 + (index * 7) % 300)])
          return sendAndClose(index % 2 === 0 ? ws : api, index % 3 === 0 ? untrusted : balancer, bytes)
        }, { concurrency: 20 })
        assert.strictEqual(yield* addressSeen(v2(client("203.0.113.10"))), "203.0.113.10")
        assert.strictEqual((yield* sendGet(api, "/healthz")).status, 200)
      }))
  }
)

/** Sends bytes, ends its half of the connection, and waits until the server closes the other half. */
const sendAndClose = (port: number, from: string, bytes: Buffer): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const socket = connectTcp({ port, host: "127.0.0.1", localAddress: from })
    socket.on("error", () => {}).on("close", () => resume(Effect.void)).resume().end(bytes)
  })

layer(TestServer.layer({ ...on, maxUnauthenticatedPerIp: 1 }), { excludeTestServices: true })(
  "limits behind a load balancer",
  (it) => {
    it.effect("the quota of one address applies to the client, not to the balancer", () =>
      Effect.gen(function*() {
        const { wsPort } = yield* TestServer
        const from = (address: string) =>
          connect(wsPort, "", { createConnection: connectThroughProxy(wsPort, v2(client(address))) })
        yield* from("192.0.2.1")
        assert.include((yield* Effect.flip(from("192.0.2.1"))).message, "503", "the same one")
        yield* from("192.0.2.2")
        yield* from("2001:db8::1")
        assert.include((yield* Effect.flip(from("2001:db8::2"))).message, "503", "the same /64")
      }))

    it.effect("the backoff of wrong tokens applies to the guessing client only", () =>
      Effect.gen(function*() {
        const { api } = yield* ports
        const guess = (address: string) =>
          Effect.map(
            sendPieces(api, balancer, v1(client(address)), request("/api/agents", ["Authorization: Bearer wrong"])),
            ({ status }) => status
          )
        const guesses = yield* Effect.all(
          [...Array.from({ length: 40 }, () => guess("192.0.2.3")), guess("192.0.2.4")],
          { concurrency: "unbounded" }
        )
        assert.include(guesses, 429)
        assert.strictEqual(guesses.at(-1), 401)
      }))
  }
)
