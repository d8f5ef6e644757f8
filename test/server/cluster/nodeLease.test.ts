/** The end of a node's lease, with a store that records the calls. */
import { NodeLease } from "#cluster/NodeLease.ts"
import { Network } from "#feed/Network.ts"
import * as NetworkState from "#network/NetworkState.ts"
import { Revision, Timeline } from "#schema/ids.ts"
import { defaults, Settings } from "#server/Settings.ts"
import { NodeStore } from "#store/NodeStore.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Option, Redacted, Scope } from "effect"

/** Builds a lease and ends it, with or without a drain. Returns the calls that change the row of the node. */
const callsOf = Effect.fnUntraced(function*(drainResult: boolean | undefined) {
  const calls: Array<string> = []
  const record = <A>(call: string, result: A) => Effect.sync(() => (calls.push(call), result))
  const store = Layer.mock(NodeStore)({
    renew: () => Effect.succeed({ epoch: "1", hasOtherNodes: true }),
    startDrain: () => record("startDrain", drainResult === true),
    release: () => record("release", undefined)
  })
  const network = Layer.mock(Network)({
    loaded: Effect.void,
    state: Effect.succeed(NetworkState.empty(Timeline.make("t"), Revision.make(0)))
  })
  const settings = Settings.of({ ...defaults, databaseUrl: Option.some(Redacted.make("postgres://localhost/control")) })
  const scope = yield* Scope.make()
  const context = yield* Layer.buildWithScope(
    NodeLease.layer(Effect.succeed(1)).pipe(
      Layer.provide([store, network, Layer.succeed(Settings, settings)])
    ),
    scope
  )
  if (drainResult !== undefined) yield* Context.get(context, NodeLease).drain(Duration.seconds(1))
  yield* Scope.close(scope, Exit.void)
  return calls
})

describe("the end of a lease", () => {
  it.effect("a node releases its lease when it stops, because the node that takes its clients may have stopped", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* callsOf(undefined), ["release"])
      assert.deepStrictEqual(yield* callsOf(false), ["startDrain", "release"])
      assert.deepStrictEqual(yield* callsOf(true), ["startDrain", "release"])
    }))
})
