/** Shares of one address or token in each pool of connections and requests. */
import { connectionLimitsOf, OpenFiles } from "#ingress/connectionLimits.ts"
import { defaults } from "#server/Settings.ts"
import { api } from "#support/apiClient.ts"
import { type RawResponse, readResponse } from "#support/rawHttp.ts"
import { adminToken } from "#support/testDatabase.ts"
import { makeServer } from "#support/TestServer.ts"
import { connect, joinV1 } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { connect as connectTcp, type Socket } from "node:net"

describe("connectionLimitsOf", () => {
  it("divides few file descriptors among the ports, and leaves some for the database", () => {
    const limits = (openFiles: number) => connectionLimitsOf(defaults, openFiles)
    assert.deepStrictEqual(limits(Number.POSITIVE_INFINITY), {
      ws: {
        connections: 24_096,
        silent: { total: 4_096, perHolder: 1_024 },
        open: 20_000,
        unauthenticated: { total: 4_096, perHolder: 1_024 }
      },
      api: { connections: 2_000, places: { total: 2_000, perHolder: 1_000, reserved: 250 }, local: 250 }
    })
    assert.deepStrictEqual(limits(512), {
      ws: {
        connections: 384,
        silent: { total: 96, perHolder: 48 },
        open: 288,
        unauthenticated: { total: 144, perHolder: 72 }
      },
      api: { connections: 64, places: { total: 64, perHolder: 32, reserved: 8 }, local: 8 }
    })
  })

  const count = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 1, maximum }))

  it.effect.prop(
    "whatever the settings and the limit of open files, no address gets every place of a pool",
    { maxConnections: count(50_000), maxUnauthenticated: count(9_000), perIp: count(90_000), openFiles: count(9_000) },
    ({ maxConnections, maxUnauthenticated, openFiles, perIp }) =>
      Effect.sync(() => {
        const settings = { maxConnections, maxUnauthenticated, maxUnauthenticatedPerIp: perIp }
        const { api, ws } = connectionLimitsOf(settings, openFiles)
        for (const { perHolder, total } of [ws.silent, ws.unauthenticated, api.places]) {
          assert.isAtLeast(perHolder, 1)
          assert.isTrue(total === 1 || perHolder < total, `${perHolder} of ${total}`)
        }
        assert.isAtMost(ws.silent.total + ws.open, ws.connections)
        assert.isTrue(ws.open === 1 || ws.unauthenticated.total < ws.open)
        assert.isBelow(api.places.reserved ?? 0, api.places.total)
      })
  )
})

const fewFiles = 128
const shares = {
  apiConnections: 8,
  silent: 6,
  unauthenticated: 9
}

const greedy = "127.0.0.9"

const smallServer = Effect.provideService(makeServer(), OpenFiles, fewFiles)

/** Opens connections from the greedy address, and waits until the server has closed `untilClosed` of them. */
const hold = Effect.fnUntraced(function*(port: number, count: number, untilClosed: number, request = "") {
  const sockets: Array<Socket> = []
  yield* Effect.addFinalizer(() => Effect.sync(() => sockets.forEach((socket) => socket.destroy())))
  yield* Effect.callback<void>((resume) => {
    let closed = 0
    for (let index = 0; index < count; index += 1) {
      const socket = connectTcp({ port, host: "127.0.0.1", localAddress: greedy }, () => socket.write(request))
      sockets.push(
        socket.resume().on("error", () => {}).on("close", () => {
          closed += 1
          if (closed === untilClosed) resume(Effect.void)
        })
      )
    }
  })
})

it.live("one address that keeps API connections open with /healthz leaves places for others", () =>
  Effect.gen(function*() {
    const { apiUrl, operator } = yield* smallServer
    const port = Number(new URL(apiUrl).port)
    yield* hold(port, 20, 20 - shares.apiConnections, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert.strictEqual((yield* Effect.promise(() => operator.get("/api/agents"))).status, 200)
    assert.match(yield* metrics(apiUrl), /control_connections_refused_total\{.*reason="address".*\} 12/u)
  }).pipe(Effect.scoped))

it.live("one address with silent connections on the WebSocket port leaves places for others", () =>
  Effect.gen(function*() {
    const { joinAgent, wsPort } = yield* smallServer
    yield* hold(wsPort, 20, 20 - shares.silent)
    yield* joinAgent
  }).pipe(Effect.scoped))

it.live("one address with unauthenticated WebSockets leaves places for others, although few files may be open", () =>
  Effect.gen(function*() {
    const { apiUrl, joinAgent, wsPort } = yield* smallServer
    const fromGreedy = connect(wsPort, "", {
      createConnection: () => connectTcp({ port: wsPort, host: "127.0.0.1", localAddress: greedy })
    })
    const held = yield* Effect.all(Array.from({ length: shares.unauthenticated }, () => fromGreedy))
    assert.include((yield* Effect.flip(fromGreedy)).message, "503")
    assert.match(yield* metrics(apiUrl), /control_connections_refused_total\{.*reason="upgrade".*\} 1/u)
    yield* joinAgent
    held[0]?.ws.close()
    yield* held[0]?.closed ?? Effect.void
    yield* Effect.retry(fromGreedy, { times: 100 })
  }).pipe(Effect.scoped))

/** Pipelines 40 copies of a request on one connection of the greedy address. Returns an effect that adds one more copy. */
const pipeline = Effect.fnUntraced(function*(port: number, request: string) {
  const socket = connectTcp({ port, host: "127.0.0.1", localAddress: greedy }, () => socket.write(request.repeat(40)))
  socket.resume().on("error", () => {})
  yield* Effect.addFinalizer(() => Effect.sync(() => socket.destroy()))
  return Effect.sync(() => void socket.write(request))
})

const getFrom = (port: number, localAddress: string, path: string, token: string) =>
  Effect.promise(() => {
    const head = `Host: localhost\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\n\r\n`
    const socket = connectTcp(
      { port, host: "127.0.0.1", localAddress },
      () => socket.write(`GET ${path} HTTP/1.1\r\n${head}`)
    )
    return readResponse(socket)
  })

/** A request that asks while the others arrive may take the place of one of them, so that one more is sent each time. */
const untilLimited = (one: Effect.Effect<void>, answer: Effect.Effect<RawResponse>) =>
  Effect.repeat(Effect.andThen(one, answer), { until: ({ status }) => status === 429 })

it.live("pipelined requests are limited for one address and one token, and others are answered", () =>
  Effect.gen(function*() {
    const { apiUrl, operator } = yield* smallServer
    const port = Number(new URL(apiUrl).port)
    const { body: { token } } = yield* Effect.promise(() => operator.post("/api/tokens", { name: "x", role: "read" }))
    const oneMore = yield* pipeline(
      port,
      `GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n\r\n`
    )
    const sameToken = yield* untilLimited(oneMore, getFrom(port, "127.0.0.8", "/api/agents", token))
    assert.include(sameToken.body, "this admin token has too many requests in progress (at most 8")
    const sameAddress = yield* untilLimited(oneMore, getFrom(port, greedy, "/api/agents", adminToken))
    assert.include(sameAddress.body, `8 requests of ${greedy} are in progress`)
    assert.include(sameAddress.body, "urn:control:problem:too-many-requests")
    assert.strictEqual((yield* Effect.promise(() => operator.get("/api/agents"))).status, 200)
  }).pipe(Effect.scoped))

it.live("one token whose requests wait for a client leaves places for the waits of others", () =>
  Effect.gen(function*() {
    const { apiUrl, newAgent, operator, wsPort } = yield* smallServer
    const port = Number(new URL(apiUrl).port)
    const agent = yield* newAgent
    // This client never acknowledges.
    yield* joinV1(wsPort, "agent", agent.apiKey)
    const { body: { token } } = yield* Effect.promise(() =>
      operator.post("/api/tokens", { name: "greedy", role: "operate" })
    )
    const lines = [
      `PATCH /api/agents/${agent.id}?wait=applied&timeout=60s HTTP/1.1`,
      "Host: localhost",
      `Authorization: Bearer ${token}`,
      "Content-Type: application/json",
      "Content-Length: 15",
      "",
      `{"name":"home"}`
    ]
    const oneMore = yield* pipeline(port, lines.join("\r\n"))
    yield* untilLimited(oneMore, getFrom(port, "127.0.0.8", "/api/agents", token))
    const answer = yield* Effect.promise(() => operator.patch(`/api/agents/${agent.id}?wait=sent`, { name: "office" }))
    assert.strictEqual(answer.status, 200)
    assert.strictEqual(answer.body.delivery.sent, 1)
  }).pipe(Effect.scoped))

const metrics = (apiUrl: string) => Effect.promise(async () => String((await api(apiUrl).get("/metrics")).body))
