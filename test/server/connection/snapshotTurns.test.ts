/** Snapshots of a large network leave the event loop to other work between two of them. */
import type { Client } from "#clients/ClientRegistry.ts"
import type { Socket } from "#connection/Socket.ts"
import { makeSnapshotTurns } from "#connection/snapshotTurns.ts"
import { Network } from "#feed/Network.ts"
import { load } from "#network/RowLoader.ts"
import { AgentId, GatewayId, Revision, Timeline } from "#schema/ids.ts"
import { eventLoopTurn } from "#time/eventLoop.ts"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer } from "effect"

const networkOf = (agents: number) =>
  Layer.mock(Network, {
    state: Effect.succeed(load(
      Timeline.make("t"),
      Revision.make(1),
      Array.from({ length: agents }, (_, index) => ({
        _tag: "AgentPut" as const,
        revision: Revision.make(1),
        agent: {
          id: AgentId.make(`a${index}`),
          name: `agent ${index}`,
          virtualIp: `10.${index >> 8}.${index & 255}.1`,
          subnet: `10.${index >> 8}.${index & 255}.0/24`,
          wireguardPublicKey: "key",
          wireguardPrivateKey: null
        }
      }))
    ))
  })

const gateway = (level: Client["level"]) => ({ ref: { type: "gateway", id: GatewayId.make("g") }, level }) as Client
const socket = (drained: Effect.Effect<void> = Effect.void, hasBacklog = false) =>
  ({ hasBacklog: () => hasBacklog, drained }) as unknown as Socket

/** Counts turns of the event loop until the scope ends. */
const countTurns = Effect.gen(function*() {
  let turns = 0
  let isOver = false
  const count = () => {
    turns += 1
    if (!isOver) setImmediate(count)
  }
  count()
  yield* Effect.addFinalizer(() => Effect.sync(() => isOver = true))
  return () => turns
})

const largeNetwork = networkOf(20_000)

describe("snapshots", () => {
  it.live("gateways that connect at once to a large network get their configs in different turns", () =>
    Effect.gen(function*() {
      const turns = yield* countTurns
      const inTurn = yield* makeSnapshotTurns
      const write = Effect.sync(turns)
      const writtenAt = yield* Effect.forEach(
        Array.from({ length: 20 }),
        () => inTurn(gateway("plain"), socket(), write),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(writtenAt).size, 20)
    }).pipe(Effect.provide(largeNetwork)))

  it.live("gateways of a small network do not wait for each other", () =>
    Effect.gen(function*() {
      const turns = yield* countTurns
      const inTurn = yield* makeSnapshotTurns
      const writtenAt = yield* Effect.forEach(
        Array.from({ length: 20 }),
        () => inTurn(gateway("plain"), socket(), Effect.sync(turns)),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(writtenAt).size, 1)
    }).pipe(Effect.provide(networkOf(10))))

  it.live("a gateway of control.v1 waits until the config of the previous one has left, or its connection ends", () =>
    Effect.gen(function*() {
      const inTurn = yield* makeSnapshotTurns
      const drained = yield* Deferred.make<void>()
      const first = yield* Deferred.make<void>()
      let isSecondWritten = false
      const slow = yield* Effect.forkChild(
        inTurn(gateway("control.v1"), socket(Deferred.await(drained), true), Deferred.succeed(first, undefined))
      )
      yield* Deferred.await(first)
      const second = yield* Effect.forkChild(
        inTurn(gateway("control.v1"), socket(), Effect.sync(() => isSecondWritten = true)),
        { startImmediately: true }
      )
      yield* Effect.repeat(eventLoopTurn, { times: 50 })
      assert.isFalse(isSecondWritten)
      yield* Fiber.interrupt(slow)
      yield* Fiber.join(second)
      assert.isTrue(isSecondWritten)
    }).pipe(Effect.provide(largeNetwork)))
})
