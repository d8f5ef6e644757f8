/** Tests that the simulated stores and the PostgreSQL stores agree on every sequence of requests. */
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
import { ReportStore } from "#store/ReportStore.ts"
import { TunnelStore } from "#store/TunnelStore.ts"
import { TestDatabase } from "#support/testDatabase.ts"
import { assert, describe, it } from "@effect/vitest"
import { Cause, type Context, Effect, Exit, HashMap, Layer, Option, Redacted } from "effect"
import type { SqlClient } from "effect/sql"
import { agentStore, gatewayStore, keyStore } from "./clientStores.ts"
import { certificateStore, reportStore, tunnelStore } from "./tunnelAndCertificateStores.ts"
import { Database } from "./SimulatedDatabase.ts"
import { changeLog } from "./changeLogStore.ts"
import { presenceStore } from "./presenceStore.ts"
import { DatabaseLink } from "./DatabaseLink.ts"
import { nodeStore } from "./nodeStores.ts"
import { Process } from "./Process.ts"
import { Random } from "./Random.ts"
import { allClients, type Stores } from "./StoreRequest.ts"
import { drawRequest } from "./randomStoreRequests.ts"
import { World } from "./World.ts"

type AllStores = Stores | ChangeLog

const postgresStores = Layer.mergeAll(
  AgentStore.layer,
  GatewayStore.layer,
  TunnelStore.layer,
  ReportStore.layer,
  CertificateStore.layer,
  ApiKeyStore.layer,
  PresenceStore.layer,
  NodeStore.layer,
  ChangeLog.layer
).pipe(Layer.provideMerge(TestDatabase))

/** Creates the simulated stores, and a function that runs an effect with them. */
const makeSimulated = () => {
  const world = new World(1, false)
  const process = new Process(world, 0, () => {})
  const database = new Database(world)
  const link = new DatabaseLink(database, process)
  const stores = Layer.mergeAll(
    agentStore(link),
    gatewayStore(link),
    tunnelStore(link),
    reportStore(link),
    certificateStore(link),
    keyStore(link),
    presenceStore(link),
    nodeStore(link),
    changeLog(link)
  )
  const run = <A, E>(effect: Effect.Effect<A, E, AllStores>): Exit.Exit<A, E> => {
    let response: Exit.Exit<A, E> | undefined
    process.run(Effect.provide(effect, stores), (exit) => {
      response = exit
    })
    world.advance(30)
    return response ?? assert.fail("the simulated stores did not respond")
  }
  return { database, run }
}

/** Fields that legitimately differ: times and cursors of each database. */
const differingFields = new Set(["createdAt", "updatedAt", "at", "since", "lastSeenAt", "lastUsedAt", "nextCursor"])

/** A response without the fields that legitimately differ. */
const toComparable = (value: unknown): unknown => {
  if (Option.isOption(value)) return Option.match(value, { onNone: () => "none", onSome: toComparable })
  if (Redacted.isRedacted(value)) return Redacted.value(value)
  if (value instanceof Set) return [...value].toSorted()
  if (Array.isArray(value)) return value.map(toComparable)
  if (value instanceof Error) return { error: value.message, ...comparableFields(value) }
  return typeof value === "object" && value !== null ? comparableFields(value) : value
}

const comparableFields = (value: object) =>
  Object.fromEntries(
    Object.entries(value).map((
      [name, inner]
    ) => [name, differingFields.has(name) ? inner !== null : toComparable(inner)])
  )

const responseOf = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isSuccess(exit) ?
    toComparable(exit.value) :
    Cause.isCause(exit.cause) && exit.cause.reasons.map((reason) =>
      reason._tag === "Fail" ? toComparable(reason.error) : `${reason._tag} ${String(Cause.squash(exit.cause))}`
    )

/** The contents of a network state, independent of the order of its construction. */
const contents = (state: NetworkState) => ({
  revision: state.revision,
  views: allClients.map((ref) =>
    ["plain" as const, "control.v1" as const].map((level) => sorted(view(state, ref, level)))
  ),
  keys: HashMap.toValues(state.keys).map(toComparable).map((key) => JSON.stringify(key)).toSorted(),
  // The time of each tunnel removal is part of the log, which the test compares separately.
  touched: allClients.map((ref) =>
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

/** PostgreSQL removes an agent's tunnels in any order. Sorts consecutive removals by id, so that both logs compare equal. */
const sortRemovals = (changes: ReadonlyArray<Change>): ReadonlyArray<Change> => {
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
  const context = yield* Effect.context<AllStores | SqlClient.SqlClient>()
  const { database, run } = makeSimulated()
  const random = new Random(seed)
  const runOnPostgres = <A, E>(effect: Effect.Effect<A, E, AllStores>) =>
    Effect.exit(Effect.provide(effect, context as Context.Context<AllStores>))
  for (let number = 0; number < length; number++) {
    const { effect, name } = drawRequest(random, number, database.tables)
    const simulated = run(effect)
    assert.deepStrictEqual(
      responseOf(simulated),
      responseOf(yield* runOnPostgres(effect)),
      `${number}: ${name}, seed ${seed}`
    )
  }
  const log = Effect.flatMap(ChangeLog, (all) => all.readAfter(Revision.make(Math.max(0, database.revision - 200))))
  const [simulated, found] = [run(log), yield* runOnPostgres(log)]
  if (!Exit.isSuccess(simulated) || !Exit.isSuccess(found)) return assert.fail("the log cannot be read")
  assert.deepStrictEqual(
    toComparable(sortRemovals(simulated.value.changes)),
    toComparable(sortRemovals(found.value.changes))
  )
  assert.deepStrictEqual([simulated.value.newest, simulated.value.oldest], [found.value.newest, found.value.oldest])
  const snapshot = Effect.flatMap(ChangeLog, (all) => all.readSnapshot)
  const [simulatedSnapshot, realSnapshot] = [run(snapshot), yield* runOnPostgres(snapshot)]
  if (!Exit.isSuccess(simulatedSnapshot) || !Exit.isSuccess(realSnapshot))
    return assert.fail("the snapshot cannot be read")
  assert.deepStrictEqual(contents(simulatedSnapshot.value.state), contents(realSnapshot.value.state))
})

describe("simulated and PostgreSQL stores", () => {
  for (const seed of [1, 2, 3]) {
    it.live(
      `simulated and PostgreSQL stores give the same responses, log and rows for 300 random requests (seed ${seed})`,
      () => Effect.provide(compare(seed, 300), postgresStores),
      60_000
    )
  }
})
