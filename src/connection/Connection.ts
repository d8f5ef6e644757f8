/** One client, one fiber: frames are decoded, the session decides, and what it decides is carried out. */
import { monotonicMillis } from "#clients/monotonic.ts"
import type { ClientType } from "#schema/ids.ts"
import { decodeFrame } from "#schema/protocol.ts"
import type { Limits } from "#session/limits.ts"
import * as Session from "#session/Session.ts"
import { Settings, type SettingsValues } from "#Settings.ts"
import { Duration, Effect, Option } from "effect"
import { makePerform } from "./perform.ts"
import { waitingLimitBytes } from "./plan.ts"
import type { Frame, Socket } from "./Socket.ts"

/** What the upgrade request told. */
export interface Upgrade {
  /** The client type that the URL names; without it the key decides. */
  readonly type: ClientType | undefined
  readonly address: string
  /** Runs once, as soon as the client has authenticated. */
  readonly admitted: Effect.Effect<void>
}

/**
 * Talks with one client until its socket closes. The scope of the session (membership, presence, subscription, the fiber
 * that forwards) ends with this effect, so nothing of a client outlives its connection.
 */
export const serve = Effect.fnUntraced(
  function*(socket: Socket, upgrade: Upgrade) {
    const settings = yield* Settings
    const started = yield* monotonicMillis
    const deadline = started + Duration.toMillis(settings.authTimeout)
    const perform = yield* makePerform(socket, upgrade)

    let session = Session.initial(limitsOf(settings), started)
    while (session.state._tag !== "closed") {
      const frame = session.state._tag === "ready"
        ? Option.some(yield* socket.receive)
        : yield* receiveUntil(socket, deadline)
      const event = toEvent(frame, session, yield* monotonicMillis)
      const [actions, next] = Session.handle(session, event)
      session = next
      for (const outcome of yield* perform(actions)) {
        const [furtherActions, further] = Session.handle(session, outcome)
        session = further
        yield* perform(furtherActions)
      }
      // A client that asks and does not read the answers is not listened to until it does.
      if (socket.waiting() > waitingLimitBytes) yield* socket.drained
    }
  },
  Effect.scoped,
  Effect.catchTags({ SocketClosed: () => Effect.void })
)

/** Until authenticated, time runs. */
const receiveUntil = Effect.fnUntraced(function*(socket: Socket, deadline: number) {
  const left = deadline - (yield* monotonicMillis)
  return yield* Effect.timeoutOption(socket.receive, Duration.millis(Math.max(0, left)))
})

function toEvent(frame: Option.Option<Frame>, session: Session.Session, at: number): Session.Event {
  if (Option.isNone(frame)) return { _tag: "AuthTimedOut" }
  if (frame.value._tag === "Binary") return { _tag: "ReceivedBinary" }
  return { _tag: "Received", frame: decodeFrame(frame.value.text, Session.senderOf(session)), at }
}

/** A burst of four seconds' worth is let through: clients that reconnect have something to tell. */
function limitsOf({ maxMessagesPerSecond }: SettingsValues): Limits {
  return { messagesPerSecond: maxMessagesPerSecond, burst: maxMessagesPerSecond * 4 }
}
