/** One client, one fiber: frames are decoded, the session decides, and what it decides is carried out. */
import { monotonicMillisUnsafe } from "#time/monotonic.ts"
import { decodeFrame } from "#schema/protocol.ts"
import type { Rate } from "#rateLimit/TokenBucket.ts"
import { largestFirstMessage } from "#session/messageLimits.ts"
import type { Event } from "#session/Action.ts"
import * as Session from "#session/Session.ts"
import { Settings, type SettingsValues } from "#server/Settings.ts"
import { Clock, Effect } from "effect"
import { Buffer } from "node:buffer"
import type { Connection } from "./ConnectionState.ts"
import { makePerform } from "./perform.ts"
import type { Frame, Socket, TooSlow } from "./Socket.ts"
import type { Upgrade } from "./upgrade.ts"

/**
 * Gives the conversation with one client: it lasts until its socket closes, and whatever the client holds (membership,
 * presence, the fiber that forwards) is given back when it ends, however it ends. Everything that all connections share is
 * looked up once, here: a connection costs only what is its own.
 */
export const makeServe = Effect.gen(function*() {
  const limit = messageLimit(yield* Settings)
  const clock = yield* Clock.Clock
  const { carryOut, giveBack } = yield* makePerform

  const converse = Effect.fnUntraced(function*(connection: Connection) {
    const { socket } = connection
    while (connection.session.state._tag !== "closed") {
      const frame = yield* socket.receive
      connection.at = monotonicMillisUnsafe(clock)
      let event: Event | undefined = toEvent(frame, connection)
      while (event !== undefined) {
        const [actions, next]: Session.Transition = Session.handle(connection.session, event)
        connection.session = next
        event = undefined
        // What one event causes goes out in one write.
        const frames: Array<Buffer> = []
        for (const action of actions) {
          const effect = carryOut(connection, action, frames)
          // One event asks at most once for something that is answered by another.
          if (effect !== undefined) event = (yield* effect) ?? event
        }
        socket.write(frames)
      }
      if (connection.session.state._tag === "connected") socket.stayCautious()
      // A client that asks and does not read the answers is not listened to until it does.
      if (socket.isBackedUp()) {
        yield* socket.drained
        // Nothing was read from it meanwhile: that was no silence of its own.
        if (connection.member !== undefined) connection.member.client.lastSeen = monotonicMillisUnsafe(clock)
      }
    }
  })

  return (socket: Socket, upgrade: Upgrade): Effect.Effect<void, TooSlow> =>
    Effect.suspend(() => {
      const at = monotonicMillisUnsafe(clock)
      const connection: Connection = {
        socket,
        upgrade,
        session: Session.initial(limit, at, upgrade.level),
        at,
        member: undefined
      }
      return Effect.ensuring(converse(connection), Effect.suspend(() => giveBack(connection)))
    }).pipe(Effect.catchTag("SocketClosed", () => Effect.void))
})

function toEvent(frame: Frame, { at, session, upgrade }: Connection): Event {
  if (frame._tag === "Binary") return { _tag: "ReceivedBinary" }
  if (session.state._tag === "connected" && Buffer.byteLength(frame.text) > largestFirstMessage)
    return { _tag: "ReceivedTooBig" }
  return {
    _tag: "Received",
    frame: decodeFrame(frame.text, Session.senderOf(session) ?? upgrade.type, session.level),
    at
  }
}

/** A burst of four seconds' worth is let through: clients that reconnect have something to tell. */
function messageLimit({ maxMessagesPerSecond }: SettingsValues): Rate {
  return { perSecond: maxMessagesPerSecond, burst: maxMessagesPerSecond * 4 }
}
