/** Shares of one address or token in each pool of connections and requests. */
import { connectionLimitsOf, OpenFiles } from "#ingress/connectionLimits.ts"
import { defaults } from "#server/Settings.ts"
import { api } from "#support/apiClient.ts"
import { sendGet } from "#support/rawHttp.ts"
import { makeServer } from "#support/TestServer.ts"
import { connect } from "#support/TestClient.ts"
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
      api: { connections: 2_000, places: { total: 2_000, perHolder: 1_000, reserved: 250 } }
    })
    assert.deepStrictEqual(limits(512), {
      ws: {
        connections: 384,
        silent: { total: 96, perHolder: 48 },
        open: 288,
        unauthenticated: { total: 144, perHolder: 72 }
      },
      api: { connections: 64, places: { total: 64, perHolder: 32, reserved: 8 } }
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
    const { joinAgent, wsPort } = yield* smallServer
    const fromGreedy = connect(wsPort, "", {
      createConnection: () => connectTcp({ port: wsPort, host: "127.0.0.1", localAddress: greedy })
    })
    const held = yield* Effect.all(Array.from({ length: shares.unauthenticated }, () => fromGreedy))
    assert.include((yield* Effect.flip(fromGreedy)).message, "503")
    yield* joinAgent
    held[0]?.ws.close()
    yield* held[0]?.closed ?? Effect.void
    yield* Effect.retry(fromGreedy, { times: 100 })
  }).pipe(Effect.scoped))

it.live("pipelined requests of one token are limited, and requests of other tokens are answered", () =>
  Effect.gen(function*() {
    const { apiUrl, newAgent, operator } = yield* smallServer
    const port = Number(new URL(apiUrl).port)
    yield* newAgent
    const { body: token } = yield* Effect.promise(() => operator.post("/api/tokens", { name: "greedy", role: "read" }))
    const follow = `GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token.token}\r\n\r\n`
    const socket = connectTcp({ port, host: "127.0.0.1", localAddress: greedy }, () => socket.write(follow.repeat(40)))
    yield* Effect.addFinalizer(() => Effect.sync(() => socket.destroy()))
    const mine = yield* Effect.repeat(sendGet(port, "/api/agents", { Authorization: `Bearer ${token.token}` }), {
      until: ({ status }) => status === 429
    })
    assert.strictEqual((yield* Effect.promise(() => operator.get("/api/agents"))).status, 200)
    assert.include(mine.body, "urn:control:problem:too-many-requests")
  }).pipe(Effect.scoped))

const metrics = (apiUrl: string) => Effect.promise(async () => String((await api(apiUrl).get("/metrics")).body))
