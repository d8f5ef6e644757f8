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
import { testSettings } from "#support/database.ts"
import { Tunnels } from "#services/Tunnels.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Exit, Layer } from "effect"
import { SqlClient } from "effect/sql"

/** Sixteen subnets, so that the pool's end is near. */
const pool = "10.64.0.0/20"

const services = Layer.mergeAll(Agents.layer, Gateways.layer, ApiKeys.layer, Tunnels.layer).pipe(
  Layer.provide(Layer.mergeAll(AgentStore.layer, GatewayStore.layer, ApiKeyStore.layer, TunnelStore.layer)),
  // Nobody is connected, so nothing has to be known to anybody before an answer.
  Layer.provide(Layer.mock(Network)({ catchUp: Effect.void })),
  Layer.provideMerge(Secrets.layer),
  Layer.provideMerge(Database.layer),
  Layer.provideMerge(DataDirectory.layer)
)

const atOnce = <A, E, R>(times: number, effect: (index: number) => Effect.Effect<A, E, R>) =>
  Effect.forEach(Array.from({ length: times }, (_, index) => index), (index) => Effect.exit(effect(index)), {
    concurrency: "unbounded"
  })

const succeeded = <A, E>(exits: ReadonlyArray<Exit.Exit<A, E>>) =>
  exits.flatMap((exit) => Exit.isSuccess(exit) ? [exit.value] : [])
const failed = <A, E>(exits: ReadonlyArray<Exit.Exit<A, E>>) =>
  exits.flatMap((exit) =>
    Exit.isFailure(exit) ? exit.cause.reasons.map((reason) => reason._tag === "Fail" ? reason.error : reason) : []
  )

layer(services.pipe(Layer.provideMerge(testSettings())), { excludeTestServices: true })(
  "writers that come at once",
  (it) => {
    it.effect("40 agents get the 40 lowest subnets, each its own", () =>
      Effect.gen(function*() {
        const agents = yield* Agents
        const made = succeeded(yield* atOnce(40, (index) => agents.create({ name: `agent ${index}` })))
        const subnets = made.map(({ agent }) => agent.subnet)
        assert.sameMembers(subnets, Array.from({ length: 40 }, (_, index) => `10.64.${index}.0/24`))
      }))

    it.effect("gateways get slots without a gap, and one that has become free goes to the next", () =>
      Effect.gen(function*() {
        const gateways = yield* Gateways
        const sql = yield* SqlClient.SqlClient
        const slots = Effect.map(sql`select slot from gateways order by slot`, (rows) => rows.map(({ slot }) => slot))
        const made = succeeded(yield* atOnce(12, (index) => gateways.create({ name: `gateway ${index}` })))
        const all = Array.from({ length: 12 }, (_, index) => index)
        assert.deepStrictEqual(yield* slots, all)
        yield* atOnce(5, (index) => gateways.remove(made[index]?.gateway.id ?? made[0]!.gateway.id))
        yield* atOnce(5, (index) => gateways.create({ name: `next ${index}` }))
        assert.deepStrictEqual(yield* slots, all)
      }))

    it.effect("never is a third key of one client live", () =>
      Effect.gen(function*() {
        const agents = yield* Agents
        const keys = yield* ApiKeys
        const { agent } = yield* agents.create({ name: "keyed" })
        const owner = { type: "agent", id: agent.id } as const
        const exits = yield* atOnce(12, () => keys.create(owner))
        assert.strictEqual(succeeded(exits).length, 1)
        assert.deepStrictEqual(failed(exits).map(({ _tag }) => _tag), Array.from({ length: 11 }, () => "TooManyKeys"))
        assert.strictEqual((yield* keys.list(owner)).length, 2)
      }))

    it.effect("of ten that want a domain one gets it, and every revision is given to one change", () =>
      Effect.gen(function*() {
        const agents = yield* Agents
        const tunnels = yield* Tunnels
        const { agent: { id: agentId } } = yield* agents.create({ name: "target" })
        const tunnel = (domain: string) => ({ agentId, domain: HostName.make(domain), target: "localhost:80" })
        const same = yield* atOnce(10, () => tunnels.create(tunnel("wanted.example.com")))
        assert.strictEqual(succeeded(same).length, 1)
        assert.deepStrictEqual(failed(same).map(({ _tag }) => _tag), Array.from({ length: 9 }, () => "DomainTaken"))
        const each = succeeded(yield* atOnce(20, (index) => tunnels.create(tunnel(`t${index}.example.com`))))
        assert.strictEqual(new Set(each.map(({ revision }) => revision)).size, 20)
      }))

    it.effect("an agent goes with all its tunnels, or a tunnel that comes meanwhile is refused: none is left without agent", () =>
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
          const exits = yield* atOnce(
            8,
            (index): Effect.Effect<unknown, { readonly _tag: string }> =>
              index === 4 ? agents.remove(id, { cascade: true }) : create(index)
          )
          assert.isTrue(
            failed(exits).every(({ _tag }) => _tag === "NoSuchAgent")
          )
          assert.deepStrictEqual(yield* sql`select id from tunnels where agent_id = ${id}`, [])
          assert.deepStrictEqual(yield* sql`select id from agents where id = ${id}`, [])
        }
      }))
  }
)

layer(services.pipe(Layer.provideMerge(testSettings({ networkPool: pool }))), { excludeTestServices: true })(
  "a small pool",
  (it) => {
    it.effect("gives every subnet once, then says that it is exhausted, and again gives what becomes free", () =>
      Effect.gen(function*() {
        const agents = yield* Agents
        const size = subnetCount(pool)
        const exits = yield* atOnce(size + 3, (index) => agents.create({ name: `agent ${index}` }))
        const made = succeeded(exits)
        assert.strictEqual(new Set(made.map(({ agent }) => agent.subnet)).size, size)
        assert.deepStrictEqual(failed(exits).map(({ _tag }) => _tag), [
          "NetworkPoolExhausted",
          "NetworkPoolExhausted",
          "NetworkPoolExhausted"
        ])
        const [{ agent }] = made as [(typeof made)[number]]
        yield* agents.remove(agent.id)
        const next = yield* agents.create({ name: "next" })
        assert.strictEqual(next.agent.subnet, agent.subnet)
      }))

    it.effect("passes over a subnet that was given out under another pool", () =>
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
