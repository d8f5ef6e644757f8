/** The history in the change log, its tags, timelines and compaction, and the high-water mark. */
import { apply } from "#network/NetworkState.ts"
import { Revision } from "#schema/ids.ts"
import { ChangeLog } from "#store/ChangeLog.ts"
import { HighWaterMarkStore } from "#store/HighWaterMark.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import { TestDatabase } from "#support/testDatabase.ts"
import { assert, describe, layer } from "@effect/vitest"
import { Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"

const insertAgent = (id: string, index: number) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const { cipher } = yield* Secrets
    const key = cipher.encrypt("private", { table: "agents", column: "wireguard_private_key", row: id })
    yield* sql`insert into agents (id, name, virtual_ip, subnet, subnet_index, wireguard_public_key, wireguard_private_key)
      values (${id}, ${id}, ${`10.64.${index}.1`}, ${`10.64.${index}.0/24`}, ${index}, 'public', ${key})`
  })

const TestLog = Layer.mergeAll(ChangeLog.layer, HighWaterMarkStore.layer).pipe(Layer.provideMerge(TestDatabase))

describe("the history of the change log", () => {
  layer(TestLog, { excludeTestServices: true })((it) => {
    it.effect("a snapshot and a reader that follows the changes have the same history", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const log = yield* ChangeLog
        const before = (yield* log.readSnapshot).state
        yield* insertAgent("a1", 1)
        yield* insertAgent("a2", 2)
        yield* sql`insert into gateways (id, name, slot, wireguard_public_key) values ('g1', 'g1', 0, 'public')`
        yield* sql`insert into tunnels (id, agent_id, domain, target) values ('t1', 'a1', 'a.example.com', 'h:80')`
        yield* sql`update tunnels set agent_id = 'a2'`
        yield* sql`update tunnels set target = 'h:81'`
        yield* sql`update gateways set public_ip = '203.0.113.1'`
        yield* sql`update gateways set listen_port = 1`
        yield* sql`update agents set name = 'other' where id = 'a1'`
        yield* sql`update agents set virtual_ip = '10.64.1.9' where id = 'a1'`
        yield* sql`delete from tunnels`
        yield* sql`delete from agents where id = 'a1'`
        const { changes } = yield* log.readAfter(before.revision)
        const followed = changes.reduce(apply, before)
        const { state: read } = yield* log.readSnapshot
        const facts = (state: typeof read) =>
          state.history.chunks.flat().map(({ agents, entity, id, own, renumbered, revision }) => ({
            revision,
            entity,
            id,
            agents: [...agents],
            // Resuming uses the other fields only for rows that still exist.
            ...(entity === "tunnel" ? {} : { own, renumbered })
          }))
        const known = facts(followed).filter(({ revision }) => revision > before.revision)
        assert.isAbove(known.length, 10)
        assert.deepStrictEqual(
          facts(read).filter((touch) => touch.id !== "a1" || touch.revision !== read.revision),
          known.filter((touch) => touch.id !== "a1" || touch.revision !== read.revision)
        )
      }))

    it.effect("a private key that only the client has is null in the network state", () =>
      Effect.gen(function*() {
        const { state } = yield* (yield* ChangeLog).readSnapshot
        const gateway = [...state.gateways].map(([, row]) => row).find(({ id }) => id === "g1")
        assert.isNull(gateway?.wireguardPrivateKey)
      }))

    it.effect("each change has its own tag, and a page has the tags at both of its ends", () =>
      Effect.gen(function*() {
        const log = yield* ChangeLog
        const page = yield* log.readAfter(Revision.make(1))
        assert.strictEqual(page.tagBefore, yield* log.readTag(Revision.make(1)))
        assert.strictEqual(page.tag, yield* log.readTag(page.upTo))
        assert.notStrictEqual(page.tag, page.tagBefore)
        assert.isNull(yield* log.readTag(Revision.make(1_000_000)))
      }))

    it.effect("a lost history gets a new timeline once", () =>
      Effect.gen(function*() {
        const log = yield* ChangeLog
        const { state: { timeline } } = yield* log.readSnapshot
        yield* log.startTimeline(timeline)
        const { state: { timeline: second } } = yield* log.readSnapshot
        assert.notStrictEqual(second, timeline)
        yield* log.startTimeline(timeline)
        assert.strictEqual((yield* log.readSnapshot).state.timeline, second)
      }))

    it.effect("compaction keeps the newest 10,000 changes and those of the last 24 hours", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const log = yield* ChangeLog
        yield* sql`insert into tunnels (id, agent_id, domain, target) values ('t9', 'a2', 't9.example.com', 'h:80')`
        yield* sql`update control_meta set revision = revision + 20000`
        const { state: { revision: newest } } = yield* log.readSnapshot
        yield* sql`insert into changes (revision, entity, op, entity_id, at)
          select ${newest} - 19999 + i, 'tunnel', 'delete', 'x' || i, now() - interval '25 hours'
          from generate_series(0, 14999) i`
        yield* sql`insert into changes (revision, entity, op, entity_id)
          select ${newest} - 4999 + i, 'tunnel', 'delete', 'y' || i from generate_series(0, 4999) i`
        const young = yield* sql`select 1 from changes where at > now() - interval '24 hours'`
        let removed = 0
        for (let batch = yield* log.compact; batch > 0; batch = yield* log.compact) {
          assert.isAtMost(batch, 1_000)
          removed += batch
        }
        assert.strictEqual(removed, 10_000)
        const left = yield* sql`select 1 from changes where at > now() - interval '24 hours'`
        assert.strictEqual(left.length, young.length)
        const kept = yield* sql`select 1 from changes where revision > ${newest} - 10000`
        assert.strictEqual(kept.length, 10_000)
        const { state } = yield* log.readSnapshot
        assert.isAtMost(state.history.startRevision, newest - 10_000)
      }))
  })
})

describe("the high-water mark", () => {
  layer(TestLog, { excludeTestServices: true })((it) => {
    it.effect("a process with an external database and both secrets in its settings keeps no mark", () =>
      Effect.gen(function*() {
        const highWater = yield* HighWaterMarkStore
        const { state, tag } = yield* (yield* ChangeLog).readSnapshot
        yield* highWater.write({ timeline: state.timeline, revision: state.revision, tag })
        assert.isTrue(Option.isNone(yield* highWater.read))
      }))
  })
})
