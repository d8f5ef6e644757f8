/** The simulated stores and the real ones on PostgreSQL give the same answers, the same log and the same rows for any list of requests. */
import * as History from "#network/History.ts"
import type { Change, NetworkState } from "#network/NetworkState.ts"
import { view } from "#views/view.ts"
import { Revision, TunnelId } from "#schema/ids.ts"
import { AgentStore } from "#store/AgentStore.ts"
import { CertificateStore } from "#store/CertificateStore.ts"
import { ChangeLog } from "#store/ChangeLog.ts"
import { GatewayStore } from "#store/GatewayStore.ts"
import { ApiKeyStore } from "#store/ApiKeyStore.ts"
import { NodeStore } from "#store/NodeStore.ts"
import { PresenceStore } from "#store/PresenceStore.ts"
import { TunnelStore } from "#store/TunnelStore.ts"
import { TestDatabase } from "#support/database.ts"
import { assert, describe, it } from "@effect/vitest"
import { Cause, type Context, Effect, Exit, HashMap, Layer, Option, Redacted } from "effect"
import type { SqlClient } from "effect/sql"
import { agentStore, gatewayStore, keyStore } from "./clientStores.ts"
import { certificateStore, tunnelStore } from "./tunnelAndCertificateStores.ts"
import { Database } from "./Database.ts"
import { changeLog } from "./changeLogStore.ts"
import { presenceStore } from "./presenceStore.ts"
import { DatabaseLink } from "./DatabaseLink.ts"
import { nodeStore } from "./nodeStores.ts"
import { Process } from "./Process.ts"
import { Random } from "./Random.ts"
import { everyone, request, type Stores } from "./storeRequests.ts"
import { World } from "./World.ts"

type All = Stores | ChangeLog

const real = Layer.mergeAll(
  AgentStore.layer,
  GatewayStore.layer,
  TunnelStore.layer,
  CertificateStore.layer,
  ApiKeyStore.layer,
  PresenceStore.layer,
  NodeStore.layer,
  ChangeLog.layer
).pipe(Layer.provideMerge(TestDatabase))

/** The simulated stores, and how to run something with them. */
const makeSimulated = () => {
  const world = new World(1, false)
  const process = new Process(world, 0, () => {})
  const database = new Database(world)
  const link = new DatabaseLink(database, process)
  const stores = Layer.mergeAll(
    agentStore(link),
    gatewayStore(link),
    tunnelStore(link),
    certificateStore(link),
    keyStore(link),
    presenceStore(link),
    nodeStore(link),
    changeLog(link)
  )
  const run = <A, E>(effect: Effect.Effect<A, E, All>): Exit.Exit<A, E> => {
    let answer: Exit.Exit<A, E> | undefined
    process.run(Effect.provide(effect, stores), (exit) => {
      answer = exit
    })
    world.advance(30)
    return answer ?? assert.fail("no answer")
  }
  return { database, run }
}

/** Times and cursors are each database's own. */
const ownNames = new Set(["createdAt", "updatedAt", "at", "since", "lastSeenAt", "lastUsedAt", "nextCursor"])

/** An answer without what must differ. */
const plain = (value: unknown): unknown => {
  if (Option.isOption(value)) return Option.match(value, { onNone: () => "none", onSome: plain })
  if (Redacted.isRedacted(value)) return Redacted.value(value)
  if (value instanceof Set) return [...value].toSorted()
  if (Array.isArray(value)) return value.map(plain)
  if (value instanceof Error) return { error: value.message, ...plainFields(value) }
  return typeof value === "object" && value !== null ? plainFields(value) : value
}

const plainFields = (value: object) =>
  Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, ownNames.has(name) ? inner !== null : plain(inner)])
  )

const answerOf = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isSuccess(exit) ?
    plain(exit.value) :
    Cause.isCause(exit.cause) && exit.cause.reasons.map((reason) =>
      reason._tag === "Fail" ? plain(reason.error) : `${reason._tag} ${String(Cause.squash(exit.cause))}`
    )

/** Everything that a state says, in an order that does not depend on how it was made. */
const contents = (state: NetworkState) => ({
  revision: state.revision,
  views: everyone.map((ref) =>
    ["plain" as const, "control.v1" as const].map((level) => sorted(view(state, ref, level)))
  ),
  keys: HashMap.toValues(state.keys).map(plain).map((key) => JSON.stringify(key)).toSorted(),
  // When each tunnel went is in the log, which is compared by itself.
  touched: everyone.map((ref) =>
    History.entriesSince(state.history, Revision.make(0), ref)?.map(({ revision, ...touch }) =>
      JSON.stringify(touch.entity === "tunnel" ? touch : { revision, ...touch })
    ).toSorted()
  )
})

const sorted = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map(sorted).toSorted((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)
    : typeof value === "object" && value !== null
    ? Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, sorted(inner)]))
    : value

/** An agent's tunnels go with it in whatever order the database finds them: neighbours are put into one that both have. */
const inAnyOrder = (changes: ReadonlyArray<Change>): ReadonlyArray<Change> => {
  const result = [...changes]
  for (let from = 0; from < result.length;) {
    let to = from
    while (result[to]?._tag === "TunnelRemoved") to += 1
    const ids = result.slice(from, to).map((change) => change._tag === "TunnelRemoved" ? change.id : "").toSorted()
    for (const [index, id] of ids.entries()) {
      result[from + index] = {
        _tag: "TunnelRemoved",
        revision: changes[from + index]?.revision ?? Revision.make(0),
        id: TunnelId.make(id)
      }
    }
    from = to + 1
  }
  return result
}

const compare = Effect.fnUntraced(function*(seed: number, length: number) {
  const context = yield* Effect.context<All | SqlClient.SqlClient>()
  const { database, run } = makeSimulated()
  const random = new Random(seed)
  const onReal = <A, E>(effect: Effect.Effect<A, E, All>) =>
    Effect.exit(Effect.provide(effect, context as Context.Context<All>))
  for (let number = 0; number < length; number++) {
    const { effect, name } = request(random, number, database.tables)
    const simulated = run(effect)
    assert.deepStrictEqual(answerOf(simulated), answerOf(yield* onReal(effect)), `${number}: ${name}, of seed ${seed}`)
  }
  const log = Effect.flatMap(ChangeLog, (all) => all.readAfter(Revision.make(Math.max(0, database.revision - 200))))
  const [simulated, found] = [run(log), yield* onReal(log)]
  if (!Exit.isSuccess(simulated) || !Exit.isSuccess(found)) return assert.fail("the log cannot be read")
  assert.deepStrictEqual(plain(inAnyOrder(simulated.value.changes)), plain(inAnyOrder(found.value.changes)))
  assert.deepStrictEqual([simulated.value.newest, simulated.value.oldest], [found.value.newest, found.value.oldest])
  const snapshot = Effect.flatMap(ChangeLog, (all) => all.readSnapshot)
  const [one, other] = [run(snapshot), yield* onReal(snapshot)]
  if (!Exit.isSuccess(one) || !Exit.isSuccess(other)) return assert.fail("the rows cannot be read")
  assert.deepStrictEqual(contents(one.value.state), contents(other.value.state))
})

describe("the simulated stores and the real ones", () => {
  for (const seed of [1, 2, 3]) {
    it.live(
      `agree on any list of requests, their log and their rows (${seed})`,
      () => Effect.provide(compare(seed, 300), real),
      60_000
    )
  }
})
