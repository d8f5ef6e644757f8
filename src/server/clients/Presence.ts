/** Tells the database who is online: claims that go out together, touches every few seconds, releases that are retried. */
import { newId } from "#crypto/identifiers.ts"
import { Events } from "#events/Events.ts"
import { type ClientRef, nameOf, SessionId } from "#schema/ids.ts"
import { Settings } from "#server/Settings.ts"
import { NodeStore } from "#store/NodeStore.ts"
import {
  type Claim,
  type Claimed,
  type Ended,
  type Held,
  type Moment,
  PresenceStore,
  type Wanted
} from "#store/PresenceStore.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { Context, Deferred, Duration, Effect, Exit, Layer, Queue, Schedule, Schema } from "effect"
import { type Client, ClientRegistry } from "./ClientRegistry.ts"
import { loopTurn } from "#time/eventLoop.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { NodeLease } from "#cluster/NodeLease.ts"
import { type Leaving, makeReleases } from "./presenceReleases.ts"
import { type Connected, connectionOf } from "#events/clientEvents.ts"

/** The client was deleted between its key being found and its session being claimed. */
export class ClientGone extends Schema.TaggedError<ClientGone>()("ClientGone", {}) {}

/** As many sockets as one process may hold, and more. */
const waitingLimit = 65_536

const touchEvery = Duration.seconds(5)

const sweepEvery = Duration.millis(2_500)

/** A session that another node has taken over is closed within two seconds, whoever is told nothing. */
const collectEvery = Duration.seconds(1)

/** How much later than its deadline a silent client may still look alive in the database: two touches and some. */
const sweepSlack = Duration.seconds(15)

export class Presence extends Context.Service<Presence, {
  /** Makes a new session the holder of its client, durably, at that moment; whoever held it before is fenced off by that. */
  claim(
    wanted: Wanted
  ): Effect.Effect<{ readonly session: SessionId; readonly at: Moment }, ClientGone | StoreUnavailable>
  /**
   * The session has ended: its client is shown offline, and that is told, unless a newer session holds it. Not so when this node
   * stops and the client was told to come to another one: then that is for the end of this node's lease. Never fails: what the
   * database does not take now is tried again until it does.
   */
  release(client: Connected & { readonly nack: Ended["nack"] }): Effect.Effect<void>
}>()("control/clients/Presence") {
  static readonly layer = Layer.effect(
    Presence,
    Effect.gen(function*() {
      const store = yield* PresenceStore
      const nodes = yield* NodeLease
      const release = yield* makeReleases(store)
      const claimPlain = yield* makeClaims(store, nodes, release)
      const claimChanging = yield* makeClaims(store, nodes, release)
      yield* touchPeriodically(store, nodes)
      yield* sweepPeriodically(store, nodes)
      yield* collectPeriodically(store, nodes)
      return Presence.of({
        // What changes more than presence waits for the log's counter, and nobody else waits with it.
        claim: (wanted) =>
          wanted.publicIp === null && wanted.wireguard === undefined ? claimPlain(wanted) : claimChanging(wanted),
        release: Effect.fnUntraced(function*({ address, level, nack, ref, session }) {
          if (!(yield* nodes.isHandedOver)) yield* release({ ref, session, address, level, nack, wasTold: true })
        })
      })
    })
  )
}

/**
 * One transaction at a time, and each takes what has come meanwhile. As long as a few turns of the event loop bring another
 * claim it waits for more: in a storm that gathers hundreds, and costs a lone client less than a millisecond.
 */
const makeClaims = Effect.fnUntraced(function*(
  store: PresenceStore["Service"],
  nodes: NodeLease["Service"],
  release: (leaving: Leaving) => Effect.Effect<void>
) {
  interface Waiting {
    readonly claim: Claim
    readonly done: Deferred.Deferred<Moment, ClientGone | StoreUnavailable>
    /** How often its row was locked by somebody else's transaction. */
    readonly tries: number
  }
  const scope = yield* Effect.scope
  const queue = yield* Queue.bounded<Waiting>(waitingLimit)

  const gather = Effect.gen(function*() {
    const waiting = yield* Queue.takeBetween(queue, 1, mostTogether)
    for (let quiet = 0; quiet < quietTurns && waiting.length < mostTogether;) {
      yield* loopTurn
      const more = Queue.sizeUnsafe(queue) === 0
        ? []
        : yield* Queue.takeBetween(queue, 1, mostTogether - waiting.length)
      waiting.push(...more)
      quiet = more.length === 0 ? quiet + 1 : 0
    }
    return waiting
  })

  const claimWaiting = Effect.gen(function*() {
    const waiting = yield* gather
    const exit = yield* Effect.exit(nodes.leased(store.claim(nodes.id, waiting.map(({ claim }) => claim))))
    if (Exit.isFailure(exit)) {
      yield* Effect.logWarning("sessions could not be claimed", exit.cause)
      // It may have been committed all the same.
      for (const { claim } of waiting) {
        const { address, level, session } = claim
        yield* release({ ref: refOf(claim), session, address, level, nack: undefined, wasTold: false })
      }
    }
    for (const [index, { claim, done, tries }] of waiting.entries()) {
      // Each that is let in makes its config at once: in between, whoever is connected gets its turn.
      if (index % admittedTogether === admittedTogether - 1) yield* loopTurn
      const isBusy = Exit.isSuccess(exit) && exit.value.busy.has(nameOf(claim))
      if (isBusy && tries < mostTries) yield* again({ claim, done, tries: tries + 1 })
      else Deferred.doneUnsafe(done, outcomeOf(exit, claim))
    }
  })

  /** Its row is locked, by a touch as long as that takes or by somebody's open transaction: nobody else waits for it. */
  const again = (waiting: Waiting) =>
    Effect.forkIn(Effect.andThen(Effect.sleep(tryAgainAfter), Queue.offer(queue, waiting)), scope)

  yield* Effect.forkScoped(Effect.forever(claimWaiting))

  return Effect.fnUntraced(function*(wanted: Wanted) {
    const session = SessionId.make(newId())
    const done = Deferred.makeUnsafe<Moment, ClientGone | StoreUnavailable>()
    yield* Queue.offer(queue, { claim: { ...wanted, session }, done, tries: 0 })
    return { session, at: yield* Deferred.await(done) }
  })
})

/** So that one transaction stays short and nobody in it waits for a whole storm. */
const mostTogether = 1_000

/** How many are let in within one turn of the event loop. */
const admittedTogether = 64

/** How many turns without another claim end the gathering. */
const quietTurns = 3

const tryAgainAfter = Duration.millis(50)

/** Three seconds, as long as any statement waits for a lock. */
const mostTries = 60

/** The store names those that were not claimed. */
function outcomeOf(exit: Exit.Exit<Claimed, StoreUnavailable>, claim: Claim) {
  if (Exit.isFailure(exit)) return Exit.fail(new StoreUnavailable({ reason: "the session could not be claimed" }))
  if (exit.value.gone.has(nameOf(claim))) return Exit.fail(new ClientGone())
  return exit.value.busy.has(nameOf(claim))
    ? Exit.fail(new StoreUnavailable({ reason: "the client's row is locked" }))
    : Exit.succeed(exit.value.at)
}

const refOf = (held: Held): ClientRef =>
  held.type === "agent" ? { type: held.type, id: held.id } : { type: held.type, id: held.id }

/** Who was heard of since the last time is written in one transaction; who turns out to have been taken over is closed. */
const touchPeriodically = Effect.fnUntraced(function*(store: PresenceStore["Service"], nodes: NodeLease["Service"]) {
  const registry = yield* ClientRegistry
  const events = yield* Events
  let written = yield* monotonicMillis
  let known = yield* nodes.mark

  const touchSeen = Effect.gen(function*() {
    const now = yield* monotonicMillis
    const clients = yield* registry.newest
    const mark = yield* nodes.mark
    // Others have shown all of them offline meanwhile: they are shown online again, heard of lately or not.
    if (mark !== known) { for (const client of clients) client.isWritten = false }
    const seen = clients.filter((client) => client.lastSeen >= written || !client.isWritten)
    for (const client of seen) client.isWritten = true
    const touched = store.touch(
      nodes.id,
      seen.map((client) => ({
        ...heldBy(client),
        ageMillis: now - client.lastSeen,
        sent: client.sent,
        applied: client.applied,
        nack: client.nack
      }))
    )
    const { again, at, held } = yield* nodes.leased(touched).pipe(
      Effect.onError(() => Effect.sync(() => seen.forEach((client) => client.isWritten = false)))
    )
    written = now
    known = mark
    for (const client of seen) {
      if (!again.has(client.session)) continue
      events.tell({ event: "client.online", data: connectionOf(client, nodes.name) }, at)
    }
    const lost = seen.filter(({ session }) => !held.has(session))
    // Somebody may have locked its row.
    for (const client of lost) client.isWritten = false
    yield* closeLost(store, lost)
  })
  yield* touchSeen.pipe(
    Effect.catchCause((cause) => Effect.logWarning("presence could not be written; trying again", cause)),
    Effect.repeat(Schedule.spaced(touchEvery)),
    Effect.forkScoped
  )
})

/**
 * Whose node is gone is shown offline. Only by a node that has held its own lease for a while: after an outage of the
 * database nobody alive is swept away.
 */
const sweepPeriodically = Effect.fnUntraced(function*(store: PresenceStore["Service"], nodes: NodeLease["Service"]) {
  const settings = yield* Settings
  const events = yield* Events
  const limit = Duration.sum(settings.heartbeatTimeout, sweepSlack)

  const sweep = Effect.gen(function*() {
    if (!(yield* nodes.mayJudge)) return
    const swept = yield* store.sweep(limit)
    if (swept.length > 0) yield* Effect.logInfo(`${swept.length} clients are shown offline: their node is gone`)
    for (const { at, node, ...data } of swept) {
      events.tell({ event: "client.offline", data: node === null ? data : { ...data, node } }, at)
    }
  })
  yield* sweep.pipe(
    Effect.catchCause((cause) => Effect.logWarning("presence could not be swept; trying again", cause)),
    Effect.repeat(Schedule.spaced(sweepEvery)),
    Effect.forkScoped
  )
})

/** Sessions that other nodes have taken over are closed. What is lost on the way is noticed by the next touch. */
const collectPeriodically = Effect.fnUntraced(function*(store: PresenceStore["Service"], nodes: NodeLease["Service"]) {
  const registry = yield* ClientRegistry
  const { collect } = yield* NodeStore

  const closeTaken = Effect.gen(function*() {
    const taken = yield* collect(nodes.id)
    if (taken.size === 0) return
    yield* closeLost(store, (yield* registry.newest).filter(({ session }) => taken.has(session)))
  })
  yield* closeTaken.pipe(
    Effect.catchCause((cause) => Effect.logWarning("takeovers could not be read; trying again", cause)),
    Effect.repeat(Schedule.spaced(collectEvery)),
    Effect.forkScoped
  )
})

/**
 * A session that was taken over is told to stop. One that a restored database does not know is told to come again: to stop it
 * would leave every client away. One whose client is gone is closed by whoever sees that.
 */
const closeLost = Effect.fnUntraced(function*(store: PresenceStore["Service"], lost: ReadonlyArray<Client>) {
  if (lost.length === 0) return
  const now = yield* monotonicMillis
  const fates = yield* store.fatesOf(lost.map((client) => ({ ...heldBy(client), ageMillis: now - client.since })))
  for (const { peer, session } of lost) {
    if (fates.taken.has(session)) peer.close("replaced")
    else if (fates.undone.has(session)) peer.close("tryLater")
  }
})

/** The session of a client as the store fences by it. */
const heldBy = (client: Client): Held => ({ ...client.ref, session: client.session })
