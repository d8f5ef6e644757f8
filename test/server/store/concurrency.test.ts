/** Concurrent writers get distinct subnets, slots, keys, domains and revisions. */
import { Agents } from "#services/Agents.ts"
import { ApiKeys } from "#services/ApiKeys.ts"
import { Network } from "#feed/Network.ts"
import { Gateways } from "#services/Gateways.ts"
import { subnetCount } from "#network/addresses.ts"
import { HostName } from "#schema/ids.ts"
import { AgentStore } from "#store/AgentStore.ts"
import * as Database from "#store/Database.ts"
import { DataDirectory } from "#store/DataDirectory.ts"
import { GatewayStore } from "#store/GatewayStore.ts"
import { ApiKeyStore } from "#store/ApiKeyStore.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import { TunnelStore } from "#store/TunnelStore.ts"
import { testSettings } from "#support/testDatabase.ts"
import { Tunnels } from "#services/Tunnels.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Exit, Layer } from "effect"
import { SqlClient } from "effect/sql"

/** A pool of 16 subnets, which a test can exhaust. */
const pool = "10.64.0.0/20"

const services = Layer.mergeAll(Agents.layer, Gateways.layer, ApiKeys.layer, Tunnels.layer).pipe(
  Layer.provide(Layer.mergeAll(AgentStore.layer, GatewayStore.layer, ApiKeyStore.layer, TunnelStore.layer)),
  // No client is connected, so a response waits for no delivery.
  Layer.provide(Layer.mock(Network)({ catchUp: Effect.void })),
  Layer.provideMerge(Secrets.layer),
  Layer.provideMerge(Database.layer),
  Layer.provideMerge(DataDirectory.layer)
)

const runConcurrently = <A, E, R>(times: number, effect: (index: number) => Effect.Effect<A, E, R>) =>
  Effect.forEach(Array.from({ length: times }, (_, index) => index), (index) => Effect.exit(effect(index)), {
    concurrency: "unbounded"
  })

const valuesOf = <A, E>(exits: ReadonlyArray<Exit.Exit<A, E>>) =>
  exits.flatMap((exit) => Exit.isSuccess(exit) ? [exit.value] : [])
const errorsOf = <A, E>(exits: ReadonlyArray<Exit.Exit<A, E>>) =>
  exits.flatMap((exit) =>
    Exit.isFailure(exit) ? exit.cause.reasons.map((reason) => reason._tag === "Fail" ? reason.error : reason) : []
  )

layer(services.pipe(Layer.provideMerge(testSettings())), { excludeTestServices: true })(
  "concurrent writers",
  (it) => {
    it.effect("40 concurrent agents get the 40 lowest subnets, one each", () =>
      Effect.gen(function*() {
        const agents = yield* Agents
        const made = valuesOf(yield* runConcurrently(40, (index) => agents.create({ name: `agent ${index}` })))
        const subnets = made.map(({ agent }) => agent.subnet)
        assert.sameMembers(subnets, Array.from({ length: 40 }, (_, index) => `10.64.${index}.0/24`))
      }))

    it.effect("gateways get slots without a gap, and the next gateway reuses a free slot", () =>
      Effect.gen(function*() {
        const gateways = yield* Gateways
        const sql = yield* SqlClient.SqlClient
        const slots = Effect.map(sql`select slot from gateways order by slot`, (rows) => rows.map(({ slot }) => slot))
        const made = valuesOf(yield* runConcurrently(12, (index) => gateways.create({ name: `gateway ${index}` })))
        const all = Array.from({ length: 12 }, (_, index) => index)
        assert.deepStrictEqual(yield* slots, all)
        yield* runConcurrently(5, (index) => gateways.remove(made[index]?.gateway.id ?? made[0]!.gateway.id))
        yield* runConcurrently(5, (index) => gateways.create({ name: `next ${index}` }))
        assert.deepStrictEqual(yield* slots, all)
      }))

    it.effect("a client never has a third live key", () =>
      Effect.gen(function*() {
        const agents = yield* Agents
        const keys = yield* ApiKeys
        const { agent } = yield* agents.create({ name: "keyed" })
        const owner = { type: "agent", id: agent.id } as const
        const exits = yield* runConcurrently(12, () => keys.create(owner))
        assert.strictEqual(valuesOf(exits).length, 1)
        assert.deepStrictEqual(errorsOf(exits).map(({ _tag }) => _tag), Array.from({ length: 11 }, () => "TooManyKeys"))
        assert.strictEqual((yield* keys.list(owner)).length, 2)
      }))

    it.effect("one of ten concurrent tunnels gets the domain, and every change has its own revision", () =>
      Effect.gen(function*() {
        const agents = yield* Agents
        const tunnels = yield* Tunnels
        const { agent: { id: agentId } } = yield* agents.create({ name: "target" })
        const tunnel = (domain: string) => ({ agentId, domain: HostName.make(domain), target: "localhost:80" })
        const same = yield* runConcurrently(10, () => tunnels.create(tunnel("wanted.example.com")))
        assert.strictEqual(valuesOf(same).length, 1)
        assert.deepStrictEqual(errorsOf(same).map(({ _tag }) => _tag), Array.from({ length: 9 }, () => "DomainTaken"))
        const each = valuesOf(yield* runConcurrently(20, (index) => tunnels.create(tunnel(`t${index}.example.com`))))
        assert.strictEqual(new Set(each.map(({ revision }) => revision)).size, 20)
      }))

    it.effect("no tunnel survives its agent, although tunnels are created while the agent is deleted", () =>
      Effect.gen(function*() {
        const agents = yield* Agents
        const tunnels = yield* Tunnels
        const sql = yield* SqlClient.SqlClient
        for (let round = 0; round < 5; round += 1) {
          const { agent: { id } } = yield* agents.create({ name: "leaving" })
          const create = (index: number) =>
            tunnels.create({
              agentId: id,
              domain: HostName.make(`r${round}-${index}.example.com`),
              target: "localhost:80"
            })
          const exits = yield* runConcurrently(
            8,
            (index): Effect.Effect<unknown, { readonly _tag: string }> =>
              index === 4 ? agents.remove(id, { cascade: true }) : create(index)
          )
          assert.isTrue(
            errorsOf(exits).every(({ _tag }) => _tag === "NoSuchAgent")
          )
          assert.deepStrictEqual(yield* sql`select id from tunnels where agent_id = ${id}`, [])
          assert.deepStrictEqual(yield* sql`select id from agents where id = ${id}`, [])
        }
      }))
  }
)

layer(services.pipe(Layer.provideMerge(testSettings({ networkPool: pool }))), { excludeTestServices: true })(
  "a small network pool",
  (it) => {
    it.effect("the pool assigns every subnet once, then fails as exhausted, and reassigns a free subnet", () =>
      Effect.gen(function*() {
        const agents = yield* Agents
        const size = subnetCount(pool)
        const exits = yield* runConcurrently(size + 3, (index) => agents.create({ name: `agent ${index}` }))
        const made = valuesOf(exits)
        assert.strictEqual(new Set(made.map(({ agent }) => agent.subnet)).size, size)
        assert.deepStrictEqual(errorsOf(exits).map(({ _tag }) => _tag), [
          "NetworkPoolExhausted",
          "NetworkPoolExhausted",
          "NetworkPoolExhausted"
        ])
        const [{ agent }] = made as [(typeof made)[number]]
        yield* agents.remove(agent.id)
        const next = yield* agents.create({ name: "next" })
        assert.strictEqual(next.agent.subnet, agent.subnet)
      }))

    it.effect("the pool skips a subnet that an agent of an earlier pool has", () =>
      Effect.gen(function*() {
        const agents = yield* Agents
        const sql = yield* SqlClient.SqlClient
        yield* sql`delete from agents`
        yield* sql`insert into agents (name, virtual_ip, subnet, subnet_index, wireguard_public_key, wireguard_private_key)
        values ('old', '10.64.1.1', '10.64.1.0/24', 7000, '', '')`
        const [first, second] = [yield* agents.create({ name: "first" }), yield* agents.create({ name: "second" })]
        assert.deepStrictEqual([first.agent.subnet, second.agent.subnet], ["10.64.0.0/24", "10.64.2.0/24"])
      }))
  }
)
