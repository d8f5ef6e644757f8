/**
 * Writes snapshots of large networks one after the other, with a turn of the event loop between two of them, so that a thousand
 * gateways that connect at once delay no heartbeat, lease or change of another client for long.
 */
import { Network } from "#feed/Network.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import type { Client } from "#clients/ClientRegistry.ts"
import { eventLoopTurn } from "#time/eventLoop.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { minGatewayConfigBytes } from "#views/encodeConfig.ts"
import { prepareConfigs } from "#views/frames.ts"
import { Effect, Semaphore } from "effect"
import type { Socket } from "./Socket.ts"

/** Runs a write of a snapshot when it is the client's turn. */
export type SnapshotTurns = <A>(client: Client, socket: Socket, write: Effect.Effect<A>) => Effect.Effect<A>

/** A smaller config takes less than 10 ms. */
const largeConfigBytes = 1_048_576

/** Longest work without a turn of the event loop, in milliseconds. */
const maxWorkMillis = 20

export const makeSnapshotTurns = Effect.gen(function*() {
  const network = yield* Network
  const oneAtATime = yield* Semaphore.make(1)

  const inTurn: SnapshotTurns = (client, socket, write) =>
    Effect.flatMap(
      network.state,
      (state) =>
        client.ref.type === "agent" || minGatewayConfigBytes(state) < largeConfigBytes
          ? write
          : oneAtATime.withPermits(1)(
            Effect.andThen(Effect.flatMap(network.state, prepare), Effect.tap(write, () => afterWrite(client, socket)))
          )
    )
  return inTurn
})

/**
 * Gateways of `control.v1` share only parts of their configs, so that the next one waits until this one has left the process.
 * A slow reader delays it by at most `maxDrainWait`.
 */
const afterWrite = ({ level }: Client, socket: Socket): Effect.Effect<void> =>
  level === "plain" || !socket.hasBacklog()
    ? eventLoopTurn
    : Effect.ignore(Effect.timeout(socket.drained, maxDrainWait))

const maxDrainWait = "1 second"

/** Encodes what many configs share step by step. `encodeConfig` then encodes only what has changed since. */
const prepare = Effect.fnUntraced(function*(state: NetworkState) {
  let since = yield* monotonicMillis
  for (const _step of prepareConfigs(state)) {
    const now = yield* monotonicMillis
    if (now - since < maxWorkMillis) continue
    yield* eventLoopTurn
    since = yield* monotonicMillis
  }
})
