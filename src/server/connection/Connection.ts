/** Runs one connection: decodes frames, asks the session, performs its actions. */
import { monotonicMillisUnsafe } from "#time/monotonic.ts"
import { decodeFrame } from "#schema/protocol.ts"
import type { Rate } from "#rateLimit/TokenBucket.ts"
import type { Event } from "#session/Action.ts"
import { maxAuthMessageBytes } from "#session/messageLimits.ts"
import * as Session from "#session/Session.ts"
import { Settings, type SettingsValues } from "#server/Settings.ts"
import { Clock, Effect } from "effect"
import { Buffer } from "node:buffer"
import type { Connection } from "./ConnectionState.ts"
import { messageFrame } from "./messageFrame.ts"
import { initialOutcome, makePerform, type Outcome } from "./perform.ts"
import type { Frame, Socket, TooSlow } from "./Socket.ts"
import type { Upgrade } from "./upgrade.ts"

/**
 * Returns the effect that serves one socket until it closes. Whatever the client holds then (session, presence, forwarding
 * fiber) is released, however the effect ends. Everything that all connections share is looked up once, here.
 */
export const makeServe = Effect.gen(function*() {
  const limit = messageLimit(yield* Settings)
  const clock = yield* Clock.Clock
  const { close, perform } = yield* makePerform

  const converse = Effect.fnUntraced(function*(connection: Connection) {
    const { socket } = connection
    while (connection.session.state._tag !== "closed") {
      const frame = yield* socket.receive
      connection.at = monotonicMillisUnsafe(clock)
      let event: Event | undefined = toEvent(frame, connection)
      while (event !== undefined) {
        const [actions, next]: Session.Transition = Session.handle(connection.session, event)
        connection.session = next
        let outcome = initialOutcome
        for (const action of actions) {
          const performed = perform(connection, action, outcome)
          outcome = Effect.isEffect(performed) ? yield* performed : performed
        }
        finish(socket, outcome)
        event = outcome.next
      }
      if (connection.session.state._tag === "connected") socket.limitNextMessage()
      // While a client does not read its answers, no message of the client is read.
      if (socket.hasBacklog()) {
        yield* socket.drained
        // No message of the client was read during the backlog, so that the wait does not count as silence.
        if (connection.member !== undefined) connection.member.lastSeen.millis = monotonicMillisUnsafe(clock)
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
      return Effect.ensuring(converse(connection), Effect.suspend(() => close(connection)))
    }).pipe(Effect.catchTag("SocketClosed", () => Effect.void))
})

/**
 * Writes all messages of one event in one write, then closes if asked to. Frames exist only within this call, because a fiber
 * that kept one would keep the whole slab of memory that the frame lies in.
 */
function finish(socket: Socket, { close, messages }: Outcome): void {
  if (messages.length > 0) socket.write(messages.map(messageFrame))
  if (close !== undefined) socket.close(close)
}

function toEvent(frame: Frame, { at, session, upgrade }: Connection): Event {
  if (frame._tag === "Binary") return { _tag: "ReceivedBinary" }
  if (session.state._tag === "connected" && Buffer.byteLength(frame.text) > maxAuthMessageBytes)
    return { _tag: "ReceivedTooBig" }
  return {
    _tag: "Received",
    frame: decodeFrame(frame.text, Session.senderOf(session) ?? upgrade.type, session.level),
    at
  }
}

/** Allows a burst of 4 s, because clients that reconnect have much to report. */
function messageLimit({ maxMessagesPerSecond }: SettingsValues): Rate {
  return { perSecond: maxMessagesPerSecond, burst: maxMessagesPerSecond * 4 }
}
