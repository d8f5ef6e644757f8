/** The half of a connection that brings its client's view up to date and keeps it there. */
import type { Client } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { ChangeBus, type Pushes } from "#feed/ChangeBus.ts"
import { Network } from "#feed/Network.ts"
import { reasonToClose } from "#network/revocation.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { type Topic, topicOf } from "#network/scope.ts"
import type { Resume } from "#schema/clientMessages.ts"
import type { CloseReason } from "#schema/codes.ts"
import { Cause, Effect, Fiber, Metric } from "effect"
import type { Buffer } from "node:buffer"
import type { Member } from "./ConnectionState.ts"
import { decide } from "./updatePlan.ts"
import { type Following, makeSnapshots } from "./snapshot.ts"
import type { Socket, SocketClosed, TooSlow } from "./Socket.ts"

/**
 * What comes before the first step. `before`: frames that go out with it in one write; they are taken out, since a frame that
 * the fiber went on holding would hold the slab of memory that it lies in. `welcome`: a welcome is due, and where the client
 * says it was.
 */
export interface Opening {
  readonly before: Array<Buffer>
  readonly welcome?: { readonly resume: Resume | undefined }
}

export const makeForwarding = Effect.gen(function*() {
  const network = yield* Network
  const bus = yield* ChangeBus
  const { sendConfig, welcome } = yield* makeSnapshots

  const forward = yield* makeForward

  /** Subscribes first, so what is committed after the snapshot comes by the subscription; what it shows is left out there. */
  const begin = Effect.fnUntraced(function*(client: Client, socket: Socket, opening: Opening) {
    // A client that asks for a config has to read what it was sent before.
    if (socket.isBackedUp()) yield* socket.drained
    const topic = topicOf(yield* network.state, client.ref)
    const pushes = yield* bus.follow(topic)
    const state = yield* network.state
    // From the state on, what would make it follow another topic comes by this one.
    if (topicOf(state, client.ref) !== topic) return "moved" as const
    // The session is a member by now: a revocation that comes later finds it, one that came before is found here.
    const reason = reasonToClose(state, client)
    if (reason !== undefined) return close(socket, reason)
    const following = opening.welcome === undefined
      ? sendConfig(client, socket, state, opening.before)
      : welcome(client, socket, state, opening.welcome.resume)
    return following === undefined ? "closed" as const : yield* forward(client, socket, { pushes, topic }, following)
  }, Effect.scoped)

  /** After a move the welcome has been said, if it was due: `begin` has taken what was to go out before. */
  const follow = Effect.fnUntraced(function*(client: Client, socket: Socket, opening: Opening) {
    let next = opening
    while ((yield* begin(client, socket, next)) === "moved") if (client.timeline !== undefined) next = { before: [] }
  })

  /** Starts the member's forwarding fiber; one that runs already is stopped first. */
  return (member: Member, socket: Socket, opening: Opening): Effect.Effect<void> =>
    Effect.andThen(
      member.forwarding === undefined ? Effect.void : Fiber.interrupt(member.forwarding),
      guarded(follow(member.client, socket, opening), socket).pipe(
        Effect.forkChild({ startImmediately: true }),
        Effect.map((fiber) => {
          member.forwarding = fiber
        })
      )
    )
})

const makeForward = Effect.gen(function*() {
  const network = yield* Network
  const deliveries = yield* Deliveries
  const { sendConfig } = yield* makeSnapshots
  const context = yield* Effect.context<never>()
  const count = (metric: Metric.Counter<number>) => metric.updateUnsafe(1, context)

  /**
   * Forwards every step after `from` until the socket closes, and fails with that, or when the client is too slow. Ends with
   * `moved` when the client has to follow another topic: to go on from there with a config.
   */
  return Effect.fnUntraced(
    function*(client: Client, socket: Socket, { pushes, topic }: Followed, from: Following) {
      let { at, receiver } = from
      let keys: NetworkState["keys"] | undefined
      while (true) {
        const news = yield* pushes.take
        // Whose key is gone is told nothing that was committed after that, however soon its connection is closed.
        const state = yield* network.state
        if (state.keys !== keys) {
          const reason = reasonToClose(state, client)
          if (reason !== undefined) return close(socket, reason)
          keys = state.keys
        }
        const plan = decide(news, at, receiver)
        if (plan._tag === "Config") {
          if (topicOf(state, client.ref) !== topic) return "moved" as const
          const following = sendConfig(client, socket, state, [])
          if (following === undefined) return "closed" as const
          ;({ at, receiver } = following)
          if (plan.missed) count(resyncs)
        } else {
          socket.write(plan.frames)
          at = plan.at
          deliveries.note(client, at)
        }
        if (socket.isBackedUp()) yield* socket.drained
      }
    }
  )
})

/** What a connection takes its news from. */
interface Followed {
  readonly topic: Topic
  readonly pushes: Pushes
}

function close(socket: Socket, reason: CloseReason) {
  socket.close(reason)
  return "closed" as const
}

/** However forwarding fails, it ends this connection and nothing else. */
function guarded(forwarding: Effect.Effect<void, TooSlow | SocketClosed>, socket: Socket): Effect.Effect<void> {
  return forwarding.pipe(
    Effect.catchTags({
      TooSlow: () => Effect.sync(() => socket.close("tooSlow")),
      SocketClosed: () => Effect.void
    }),
    Effect.catchCause((cause) =>
      Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.andThen(
        Effect.logError("forwarding to a client failed", cause),
        Effect.sync(() => socket.close("defect"))
      )
    )
  )
}

const resyncs = Metric.counter("control_resyncs_total", {
  description: "Configs sent in place of steps, because the client was too slow for them or the log did not continue",
  incremental: true
})
