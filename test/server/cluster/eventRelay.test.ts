/** README, "One node or several": whoever follows the events at one node is told of the clients of all of them. */
import { PresenceOrder } from "#events/PresenceOrder.ts"
import { Outbox } from "#events/Outbox.ts"
import type { ControlEvent } from "#schema/events.ts"
import { Revision, SessionId } from "#schema/ids.ts"
import { adminToken, newDatabase } from "#support/database.ts"
import { type EventFollower, follow } from "#support/EventFollower.ts"
import { makeServer } from "#support/server.ts"
import { start, temporaryDirectory } from "#support/process.ts"
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
  const one = yield* makeServer({ ...settings, nodeName: "one" })
  const other = yield* makeServer({ ...settings, nodeName: "other" })
  // One that has just started is not known to the other yet.
  for (const { context } of [one, other]) {
    yield* Effect.repeat(Context.get(context, NodeLease).hasOtherNodes, { until: (has) => has })
  }
  const followers = [yield* follow(one.apiUrl, adminToken), yield* follow(other.apiUrl, adminToken)]
  return { url, key, one, other, followers }
})

/** What a follower is told of presence, up to the last word that is expected. */
const presenceUpTo = Effect.fnUntraced(function*(follower: EventFollower, last: (event: string) => boolean) {
  const told: Array<string> = []
  while (true) {
    const { data, event } = yield* follower.next
    if (!event.startsWith("client.")) continue
    const word = `${event} ${data.clientId} ${data.node}`
    told.push(word)
    if (last(word)) return told
  }
})

describe("events of several nodes", () => {
  it.live(
    "who comes, acknowledges, refuses and goes at one node is told at both, once and in order",
    () =>
      Effect.gen(function*() {
        const { followers, one } = yield* twoNodes
        const { apiKey, id } = yield* one.newAgent
        const client = yield* joinV1(one.wsPort, "agent", apiKey)
        const { revision } = yield* client.expect("config")
        client.send({ type: "ack", data: { revision } })
        const tunnel = yield* one.newTunnel(id)
        yield* client.expect("tunnel_create")
        // What PostgreSQL's JSON could not keep.
        client.send({ type: "nack", data: { revision: tunnel.revision, code: "no\0", message: "not \ud800 so" } })
        // It has been read when this is answered.
        client.send({ type: "heartbeat", data: { timestamp: 1 } })
        yield* client.expect("heartbeat_ack")
        client.ws.close()
        for (const follower of followers) {
          const told: Array<string> = []
          while (told.at(-1) !== "client.offline") {
            const { data, event } = yield* follower.next
            if (data.clientId !== id) continue
            assert.strictEqual(data.node, "one")
            told.push(event)
            if (event === "nack") assert.strictEqual(data.code, "no\0")
          }
          assert.deepStrictEqual(told, ["client.online", "ack", "nack", "client.offline"])
        }
        const next = yield* one.joinAgent
        for (const follower of followers) {
          assert.deepStrictEqual(yield* presenceUpTo(follower, () => true), [`client.online ${next.id} one`])
        }
      }).pipe(Effect.scoped),
    30_000
  )

  it.live(
    "the clients of a node that stands still, comes back and is killed are told of once each time at both others",
    () =>
      Effect.gen(function*() {
        const { followers, key, one, url } = yield* twoNodes
        const { apiKey, id } = yield* one.newAgent
        const doomed = yield* start({
          DATABASE_URL: url,
          CONTROL_MASTER_KEY: key,
          CONTROL_ADMIN_TOKEN: "ctl_adm_of-the-other",
          CONTROL_DATA_DIR: yield* temporaryDirectory,
          CONTROL_NODE_NAME: "doomed"
        })
        const toldNext = Effect.forEach(followers, (follower) => presenceUpTo(follower, () => true))
        const toBoth = (event: string) => [[`${event} ${id} doomed`], [`${event} ${id} doomed`]]
        const { ws } = yield* join(doomed.wsPort, "agent", apiKey)
        assert.deepStrictEqual(yield* toldNext, toBoth("client.online"))
        doomed.signal("SIGSTOP")
        assert.deepStrictEqual(yield* toldNext, toBoth("client.offline"))
        doomed.signal("SIGCONT")
        assert.deepStrictEqual(yield* toldNext, toBoth("client.online"))
        assert.strictEqual(ws.readyState, ws.OPEN)
        doomed.signal("SIGKILL")
        assert.deepStrictEqual(yield* toldNext, toBoth("client.offline"))
      }).pipe(Effect.scoped),
    90_000
  )

  it.live(
    "who goes from one node to the other is told to be online at both, and never offline",
    () =>
      Effect.gen(function*() {
        const { followers, one, other } = yield* twoNodes
        const { apiKey, client, id } = yield* one.joinAgent
        const second = yield* join(other.wsPort, "agent", apiKey)
        assert.strictEqual((yield* client.closed).code, 4409)
        second.ws.close()
        for (const follower of followers) {
          const told = yield* presenceUpTo(follower, (word) => word.startsWith("client.offline"))
          assert.strictEqual(told.at(-1), `client.offline ${id} other`)
          assert.strictEqual(told.at(-2), `client.online ${id} other`)
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

describe("what is waiting to be told", () => {
  it("has the newest acknowledgement of a client only, behind what was told before it", () => {
    const outbox = new Outbox(10)
    for (const event of [ack(1), nack(2), ack(3)]) outbox.add({ event })
    assert.deepStrictEqual(read(outbox.takeBatch(1_000, "one")), ["nack 2", "ack 3"])
    assert.deepStrictEqual(outbox.takeBatch(1_000, "one"), [])
  })

  it("is taken in pieces, and says where the oldest were dropped", () => {
    const outbox = new Outbox(2)
    for (const revision of [1, 2, 3]) outbox.add({ event: nack(revision) })
    assert.deepStrictEqual(read(outbox.takeBatch(1, "one")), ["reset "])
    assert.deepStrictEqual(read(outbox.takeBatch(1, "one")), ["nack 2"])
    assert.deepStrictEqual(read(outbox.takeBatch(1, "one")), ["nack 3"])
  })
})

it("an older word of a client's presence is no news, nor is the same twice", () => {
  const presences = new PresenceOrder(8)
  const word = (event: "client.online" | "client.offline", session: string, at: number) =>
    presences.recordIfNewer({
      at,
      event: { event, data: { ...client, session: SessionId.make(session), address: "::1", level: "plain" } }
    })
  assert.isTrue(word("client.online", "second", 30))
  assert.isFalse(word("client.online", "first", 10))
  assert.isFalse(word("client.offline", "first", 20))
  assert.isFalse(word("client.online", "second", 30))
  assert.isTrue(word("client.offline", "second", 40))
  assert.isFalse(word("client.offline", "second", 50))
})
