/** Stream of events for operators, buffered and shared between nodes. */
import { newId } from "#crypto/identifiers.ts"
import { Quota } from "#rateLimit/Quota.ts"
import type { Role } from "#schema/adminTokens.ts"
import type { ControlEvent } from "#schema/events.ts"
import type { Revision } from "#schema/ids.ts"
import { EventStore } from "#store/EventStore.ts"
import { Context, Deferred, Effect, Layer, Option, Schema, type Scope, Stream } from "effect"
import { type Cursor, EventBuffer, type PublishedEvent, resetEvent } from "./EventBuffer.ts"
import { RelayQueue } from "./RelayQueue.ts"
import { PresenceOrder } from "./PresenceOrder.ts"
import type { RelayedEvent } from "./RelayedEvent.ts"
import { Signal } from "./Signal.ts"

/** Number of events by which a reader may be behind. */
const maxBufferedEvents = 10_000

/** More than the number of clients that move between nodes within minutes. */
const maxTrackedClients = 32_768

/** One token may have half of the streams, and the last ones are for tokens of the role `admin`. */
const followerLimits = { total: 100, perHolder: 50, reserved: 10 }

const maxEventsPerPage = 256

/** This process serves the maximum number of followers already, in total or of one token. */
export class TooManyFollowers extends Schema.TaggedError<TooManyFollowers>()("TooManyFollowers", {
  isLimitOfToken: Schema.Boolean
}) {
  override get message(): string {
    const { perHolder, reserved, total } = followerLimits
    return this.isLimitOfToken
      ? `${perHolder} event streams of this admin token are open, the maximum of one token; close one of them`
      : `${total - reserved} event streams are open, which is the maximum; try again later`
  }
}

/** Operator of an event stream: the id of its admin token, or null for the token of the settings. */
export interface Follower {
  readonly id: string | null
  readonly role: Role
}

export class Events extends Context.Service<Events, {
  /**
   * Publishes an event that every node detects by itself to the followers at this node. Never waits and never fails, and neither
   * do `broadcast` and `receive`. A follower that reads too slowly misses events and gets a `reset`.
   */
  publishLocal(event: ControlEvent): void
  /**
   * Publishes an event to the followers at all nodes. `at`: time of a presence event by the database's clock. A presence event
   * is dropped if a later one of its client was published.
   */
  broadcast(event: ControlEvent, at?: number): void
  /** Publishes an event of another node to the followers at this node. */
  receive(relayed: RelayedEvent): void
  /** Events of this node for the other nodes. One fiber takes them. */
  readonly relayQueue: RelayQueue
  /** Publishes a `reset`, because the network was reloaded at this revision and the changes up to it have no events. */
  recordReload(revision: Revision): void
  /**
   * Streams events from now on, or from the event with `lastEventId` on as far as events are kept. `from` is the id to begin
   * with. A `reset` stands where events may be missing. Counts as a follower until the scope ends.
   */
  follow(
    lastEventId: string | undefined,
    follower: Follower
  ): Effect.Effect<
    { readonly from: string; readonly events: Stream.Stream<PublishedEvent> },
    TooManyFollowers,
    Scope.Scope
  >
  /** Ends every stream, including those that begin later. */
  readonly close: Effect.Effect<void>
}>()("control/events/Events") {
  static readonly layer = Layer.effect(
    Events,
    Effect.gen(function*() {
      const buffer = new EventBuffer(newId(), maxBufferedEvents)
      const added = new Signal()
      const closed = yield* Deferred.make<void>()
      const presenceOrder = new PresenceOrder(maxTrackedClients)
      const relayQueue = new RelayQueue(maxBufferedEvents)
      const eventsFrom = yield* makeReader(buffer, added)
      const followers = new Quota(followerLimits)

      const publishLocal = (event: ControlEvent) => {
        buffer.add(event)
        added.wake()
      }

      const receive = (relayed: RelayedEvent) => {
        const isNewer = presenceOrder.recordIfNewer(relayed)
        if (isNewer) publishLocal(relayed.event)
        return isNewer
      }

      const broadcast = (event: ControlEvent, at?: number) => {
        const relayed = at === undefined ? { event } : { event, at }
        if (receive(relayed)) relayQueue.add(relayed)
      }

      const recordReload = (revision: Revision) => {
        buffer.addReload(revision)
        added.wake()
      }

      const acquireFollower = ({ id, role }: Follower) => {
        const holder = id ?? "bootstrap"
        return Effect.acquireRelease(
          Effect.suspend(() => {
            const release = followers.tryAcquire(holder, { mayUseReserve: role === "admin" })
            return release === undefined
              ? Effect.fail(new TooManyFollowers({ isLimitOfToken: followers.isHolderAtLimit(holder) }))
              : Effect.succeed(release)
          }),
          (release) => Effect.sync(release)
        )
      }

      const follow = Effect.fn("Events.follow")(function*(lastEventId: string | undefined, follower: Follower) {
        yield* acquireFollower(follower)
        const cursor = buffer.cursorAfter(lastEventId)
        return { from: cursor.from, events: Stream.interruptWhen(eventsFrom(cursor), Deferred.await(closed)) }
      })

      const close = Effect.asVoid(Deferred.succeed(closed, undefined))
      return Events.of({ publishLocal, broadcast, receive, relayQueue, recordReload, follow, close })
    })
  )
}

const makeReader = Effect.fnUntraced(function*(buffer: EventBuffer, added: Signal) {
  const store = yield* EventStore

  const live = (first: number) =>
    Stream.unwrap(Effect.map(added.subscribe, (woken) =>
      Stream.paginate(
        first,
        Effect.fnUntraced(function*(next) {
          while (next > buffer.newest) yield* woken
          const page = buffer.page(next, maxEventsPerPage)
          return [page.events, Option.some(page.next)] as const
        })
      )))

  /** A `reset`, then the missed changes from the database. The `reset` covers everything that the database does not have. */
  const missed = ({ from, next }: Cursor, { after, upTo }: NonNullable<Cursor["missed"]>) =>
    Stream.make<[PublishedEvent]>({
      id: from,
      event: resetEvent("events after the last event id are not kept any more")
    })
      .pipe(
        Stream.concat(
          store.readChanges(after, upTo, maxBufferedEvents).pipe(
            Effect.catchCause((cause) =>
              Effect.as(
                Effect.logWarning("cannot read the changes that an event stream has missed", cause),
                []
              )
            ),
            Stream.fromIterableEffect,
            Stream.map((data): PublishedEvent => ({
              id: buffer.idOf(next - 1, data.revision),
              event: { event: "change", data }
            }))
          )
        )
      )

  return (cursor: Cursor): Stream.Stream<PublishedEvent> =>
    cursor.missed === undefined ? live(cursor.next) : Stream.concat(missed(cursor, cursor.missed), live(cursor.next))
})
