/**
 * Writes snapshots of large networks one after the other, with a turn of the event loop between two of them, so that a thousand
 * gateways that connect at once delay no heartbeat, lease or change of another client for long.
 */
import { Network } from "#feed/Network.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import type { ClientRef } from "#schema/ids.ts"
import { eventLoopTurn } from "#time/eventLoop.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { minGatewayConfigBytes } from "#views/encodeConfig.ts"
import { prepareConfigs } from "#views/frames.ts"
import { Effect, Semaphore } from "effect"

/** Runs a write of a snapshot when it is the client's turn. */
export type SnapshotTurns = <A>(client: ClientRef, write: Effect.Effect<A>) => Effect.Effect<A>

/** A smaller config takes less than 10 ms. */
const largeConfigBytes = 1_048_576

/** Longest work without a turn of the event loop, in milliseconds. */
const maxWorkMillis = 20

export const makeSnapshotTurns = Effect.gen(function*() {
  const network = yield* Network
  const oneAtATime = yield* Semaphore.make(1)

  const inTurn: SnapshotTurns = (client, write) =>
    Effect.flatMap(network.state, (state) =>
      client.type === "agent" || minGatewayConfigBytes(state) < largeConfigBytes
        ? write
        : oneAtATime.withPermits(1)(
          Effect.andThen(Effect.flatMap(network.state, prepare), Effect.tap(write, () => eventLoopTurn))
        ))
  return inTurn
})

/** Encodes what many configs share step by step. Of what changes meanwhile, the config encodes the changed part only. */
const prepare = Effect.fnUntraced(function*(state: NetworkState) {
  let since = yield* monotonicMillis
  for (const _step of prepareConfigs(state)) {
    const now = yield* monotonicMillis
    if (now - since < maxWorkMillis) continue
    yield* eventLoopTurn
    since = yield* monotonicMillis
  }
})
