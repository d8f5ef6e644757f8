/** What happens, as operators follow it: kept for a while, read by whoever wants to, and nobody is waited for. */
import { newId } from "#crypto/identifiers.ts"
import type { ControlEvent } from "#schema/events.ts"
import type { Revision } from "#schema/ids.ts"
import { EventStore } from "#store/EventStore.ts"
import { Context, Deferred, Effect, Layer, Option, Schema, type Scope, Stream } from "effect"
import { PresenceOrder } from "./PresenceOrder.ts"
import { Outbox } from "./Outbox.ts"
import { type Cursor, EventBuffer, type PublishedEvent, resetEvent } from "./EventBuffer.ts"
import type { RelayedEvent } from "./RelayedEvent.ts"
import { Signal } from "./Signal.ts"

/** As many follow as one process serves. */
export class TooManyFollowers extends Schema.TaggedError<TooManyFollowers>()("TooManyFollowers", {}) {
  override get message(): string {
    return `${maxFollowers} follow the events already`
  }
}

export class Events extends Context.Service<Events, {
  /**
   * Tells everybody who follows at this node what each node finds out by itself. Never waits and never fails, as the next two:
   * who reads too slowly misses events, and is told so.
   */
  publishLocal(event: ControlEvent): void
  /** Tells everybody who follows at any node, unless it is of a client's presence and something later was told already. */
  broadcast(event: ControlEvent, at?: number): void
  /** Tells on, to those who follow at this node, what another one has told. */
  receive(telling: RelayedEvent): void
  /** What was told here and the other nodes have to be told yet: one fiber takes it. */
  readonly outbox: Outbox
  /** The network was read whole at this revision: changes up to it may not have been published. Everybody is told so. */
  recordReload(revision: Revision): void
  /**
   * Everything from now on; or what has come after the event of this id, as far as it is still known, and everything from
   * then on. `from` is the id to begin with. Where events may be missing there is a `reset`. A place is taken until the
   * scope ends.
   */
  follow(
    lastEventId: string | undefined
  ): Effect.Effect<
    { readonly from: string; readonly events: Stream.Stream<PublishedEvent> },
    TooManyFollowers,
    Scope.Scope
  >
  /** Ends what is followed, now and from now on. */
  readonly close: Effect.Effect<void>
}>()("control/events/Events") {
  static readonly layer = Layer.effect(
    Events,
    Effect.gen(function*() {
      const recent = new EventBuffer(newId(), maxBufferedEvents)
      const added = new Signal()
      const ended = yield* Deferred.make<void>()
      const presences = new PresenceOrder(maxTrackedClients)
      const outbox = new Outbox(maxBufferedEvents)
      const eventsAt = yield* makeReader(recent, added)
      let followers = 0

      const publish = (event: ControlEvent) => {
        recent.add(event)
        added.wake()
      }

      const hear = (telling: RelayedEvent) => {
        const isNews = presences.recordIfNewer(telling)
        if (isNews) publish(telling.event)
        return isNews
      }

      const tell = (event: ControlEvent, at?: number) => {
        const telling = at === undefined ? { event } : { event, at }
        if (hear(telling)) outbox.add(telling)
      }

      const restart = (revision: Revision) => {
        recent.addReload(revision)
        added.wake()
      }

      const place = Effect.acquireRelease(
        Effect.suspend(() => followers < maxFollowers ? Effect.sync(() => followers += 1) : new TooManyFollowers()),
        () => Effect.sync(() => followers -= 1)
      )

      const follow = Effect.fn("Events.follow")(function*(lastEventId: string | undefined) {
        yield* place
        const begin = recent.cursorAfter(lastEventId)
        return { from: begin.from, events: Stream.interruptWhen(eventsAt(begin), Deferred.await(ended)) }
      })

      const end = Effect.asVoid(Deferred.succeed(ended, undefined))
      return Events.of({
        publishLocal: publish,
        broadcast: tell,
        receive: hear,
        outbox,
        recordReload: restart,
        follow,
        close: end
      })
    })
  )
}

/** For so many events a reader may be away, or behind. */
const maxBufferedEvents = 10_000

/** As many clients as connect to several nodes, and more. */
const maxTrackedClients = 32_768

const maxFollowers = 100

/** Events that are handed on at a time. */
const mostTogether = 256

const makeReader = Effect.fnUntraced(function*(recent: EventBuffer, added: Signal) {
  const store = yield* EventStore

  const live = (first: number) =>
    Stream.unwrap(Effect.map(added.subscribe, (woken) =>
      Stream.paginate(
        first,
        Effect.fnUntraced(function*(next) {
          while (next > recent.newest) yield* woken
          const page = recent.page(next, mostTogether)
          return [page.events, Option.some(page.next)] as const
        })
      )))

  /** The missed changes come from the database; whatever cannot be had is covered by the `reset` before them. */
  const missed = ({ from, next }: Cursor, { after, upTo }: NonNullable<Cursor["missed"]>) =>
    Stream.make<[PublishedEvent]>({
      id: from,
      event: resetEvent("what came after the last event is not known any more")
    })
      .pipe(
        Stream.concat(
          store.readChanges(after, upTo, maxBufferedEvents).pipe(
            Effect.catchCause((cause) =>
              Effect.as(Effect.logWarning("changes that a reader of events has missed could not be read", cause), [])
            ),
            Stream.fromIterableEffect,
            Stream.map((data): PublishedEvent => ({
              id: recent.idOf(next - 1, data.revision),
              event: { event: "change", data }
            }))
          )
        )
      )

  return (place: Cursor): Stream.Stream<PublishedEvent> =>
    place.missed === undefined ? live(place.next) : Stream.concat(missed(place, place.missed), live(place.next))
})
