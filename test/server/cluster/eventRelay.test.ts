/** Events of several nodes: a follower at one node gets the events of all nodes. */
import { PresenceOrder } from "#events/PresenceOrder.ts"
import { RelayQueue } from "#events/RelayQueue.ts"
import type { ControlEvent } from "#schema/events.ts"
import { Revision, SessionId } from "#schema/ids.ts"
import { adminToken, newDatabase } from "#support/testDatabase.ts"
import { type EventFollower, followEvents } from "#support/EventFollower.ts"
import { fastIntervals } from "#support/fastIntervals.ts"
import { makeServer } from "#support/TestServer.ts"
import { startFastServer } from "#support/serverProcess.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { join, joinV1 } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Option, Redacted } from "effect"
import { NodeLease } from "#cluster/NodeLease.ts"
import { randomBytes } from "node:crypto"

const twoNodes = Effect.gen(function*() {
  const { url } = yield* newDatabase
  const key = randomBytes(32).toString("base64")
  const settings = {
    databaseUrl: Option.some(Redacted.make(url)),
    masterKey: Option.some(Redacted.make(key))
  }
  const one = yield* makeServer({ ...settings, nodeName: "one" }, fastIntervals)
  const other = yield* makeServer({ ...settings, nodeName: "other" }, fastIntervals)
  // A node learns of another node with its next renewal.
  for (const { context } of [one, other]) {
    yield* Effect.repeat(Context.get(context, NodeLease).hasOtherNodes, { until: (has) => has })
  }
  const followers = [yield* followEvents(one.apiUrl, adminToken), yield* followEvents(other.apiUrl, adminToken)]
  return { url, key, one, other, followers }
})

/** The presence events of a follower, up to the last expected one. */
const presenceEvents = Effect.fnUntraced(function*(follower: EventFollower, last: (event: string) => boolean) {
  const received: Array<string> = []
  while (true) {
    const { data, event } = yield* follower.next
    if (!event.startsWith("client.")) continue
    const line = `${event} ${data.clientId} ${data.node}`
    received.push(line)
    if (last(line)) return received
  }
})

describe("events of several nodes", () => {
  it.live(
    "connect, ack, nack and disconnect of a client are published at both nodes, once and in order",
    () =>
      Effect.gen(function*() {
        const { followers, one } = yield* twoNodes
        const { apiKey, id } = yield* one.newAgent
        const client = yield* joinV1(one.wsPort, "agent", apiKey)
        const { revision } = yield* client.expect("config")
        client.send({ type: "ack", data: { revision } })
        const tunnel = yield* one.newTunnel(id)
        yield* client.expect("tunnel_create")
        // Text that PostgreSQL's JSON cannot store.
        client.send({ type: "nack", data: { revision: tunnel.revision, code: "no\0", message: "not \ud800 so" } })
        // The answer shows that the node has read the nack.
        client.send({ type: "heartbeat", data: { timestamp: 1 } })
        yield* client.expect("heartbeat_ack")
        client.ws.close()
        for (const follower of followers) {
          const received: Array<string> = []
          while (received.at(-1) !== "client.offline") {
            const { data, event } = yield* follower.next
            if (data.clientId !== id) continue
            assert.strictEqual(data.node, "one")
            received.push(event)
            if (event === "nack") assert.strictEqual(data.code, "no\0")
          }
          assert.deepStrictEqual(received, ["client.online", "ack", "nack", "client.offline"])
        }
        const next = yield* one.joinAgent
        for (const follower of followers) {
          assert.deepStrictEqual(yield* presenceEvents(follower, () => true), [`client.online ${next.id} one`])
        }
      }).pipe(Effect.scoped),
    30_000
  )

  it.live(
    "both other nodes publish one event each time when a node stalls, continues and is killed",
    () =>
      Effect.gen(function*() {
        const { followers, key, one, url } = yield* twoNodes
        const { apiKey, id } = yield* one.newAgent
        const doomed = yield* startFastServer({
          DATABASE_URL: url,
          CONTROL_MASTER_KEY: key,
          CONTROL_ADMIN_TOKEN: "ctl_adm_of-the-other",
          CONTROL_DATA_DIR: yield* temporaryDirectory,
          CONTROL_NODE_NAME: "doomed"
        })
        const nextAtBoth = Effect.forEach(followers, (follower) => presenceEvents(follower, () => true))
        const toBoth = (event: string) => [[`${event} ${id} doomed`], [`${event} ${id} doomed`]]
        const { ws } = yield* join(doomed.wsPort, "agent", apiKey)
        assert.deepStrictEqual(yield* nextAtBoth, toBoth("client.online"))
        doomed.signal("SIGSTOP")
        assert.deepStrictEqual(yield* nextAtBoth, toBoth("client.offline"))
        doomed.signal("SIGCONT")
        assert.deepStrictEqual(yield* nextAtBoth, toBoth("client.online"))
        assert.strictEqual(ws.readyState, ws.OPEN)
        doomed.signal("SIGKILL")
        assert.deepStrictEqual(yield* nextAtBoth, toBoth("client.offline"))
      }).pipe(Effect.scoped),
    90_000
  )

  it.live(
    "a client that moves to another node is published as online at both, and never as offline",
    () =>
      Effect.gen(function*() {
        const { followers, one, other } = yield* twoNodes
        const { apiKey, client, id } = yield* one.joinAgent
        const second = yield* join(other.wsPort, "agent", apiKey)
        assert.strictEqual((yield* client.closed).code, 4409)
        // Releases are written in order: after a later release is visible, the one of the old session was written.
        const later = yield* one.joinAgent
        later.client.ws.close()
        const status = Effect.promise(() => one.operator.get(`/api/agents/${later.id}`))
        yield* Effect.repeat(status, { until: ({ body }) => body.status === "offline" })
        second.ws.close()
        for (const follower of followers) {
          const received = yield* presenceEvents(follower, (line) => line.startsWith(`client.offline ${id}`))
          const ofClient = received.filter((line) => line.includes(id))
          assert.strictEqual(ofClient.at(-1), `client.offline ${id} other`)
          assert.strictEqual(ofClient.at(-2), `client.online ${id} other`)
        }
      }).pipe(Effect.scoped),
    30_000
  )
})

const client = { clientType: "agent", clientId: "home" } as const
const ack = (revision: number): ControlEvent => ({
  event: "ack",
  data: { ...client, revision: Revision.make(revision) }
})
const nack = (revision: number): ControlEvent => ({
  event: "nack",
  data: { ...client, revision: Revision.make(revision), code: "c", message: "m" }
})
const read = (texts: ReadonlyArray<string>) => {
  return texts.map((text): string => {
    const { event: { data, event } } = JSON.parse(text)
    return `${event} ${data.revision ?? ""}`
  })
}

describe("the relay queue", () => {
  it("the relay queue keeps only the newest ack of a client, after the events that came before it", () => {
    const relayQueue = new RelayQueue(10)
    for (const event of [ack(1), nack(2), ack(3)]) relayQueue.add({ event })
    assert.deepStrictEqual(read(relayQueue.takeBatch(1_000, "one")), ["nack 2", "ack 3"])
    assert.deepStrictEqual(relayQueue.takeBatch(1_000, "one"), [])
  })

  it("the relay queue is taken in batches, and marks dropped events with a reset", () => {
    const relayQueue = new RelayQueue(2)
    for (const revision of [1, 2, 3]) relayQueue.add({ event: nack(revision) })
    assert.deepStrictEqual(read(relayQueue.takeBatch(1, "one")), ["reset "])
    assert.deepStrictEqual(read(relayQueue.takeBatch(1, "one")), ["nack 2"])
    assert.deepStrictEqual(read(relayQueue.takeBatch(1, "one")), ["nack 3"])
  })
})

it("an older or repeated presence event of a client is not published", () => {
  const order = new PresenceOrder(8)
  const record = (event: "client.online" | "client.offline", session: string, at: number) =>
    order.recordIfNewer({
      at,
      event: { event, data: { ...client, session: SessionId.make(session), address: "::1", level: "plain" } }
    })
  assert.isTrue(record("client.online", "second", 30))
  assert.isFalse(record("client.online", "first", 10))
  assert.isFalse(record("client.offline", "first", 20))
  assert.isFalse(record("client.online", "second", 30))
  assert.isTrue(record("client.offline", "second", 40))
  assert.isFalse(record("client.offline", "second", 50))
})
