/** Persists which clients are online: claims, periodic touches, releases and sweeps. */
import { NodeLease } from "#cluster/NodeLease.ts"
import { onlineData } from "#events/clientEvents.ts"
import { Events } from "#events/Events.ts"
import type { SessionId } from "#schema/ids.ts"
import { Settings } from "#server/Settings.ts"
import { NodeStore } from "#store/NodeStore.ts"
import { PresenceStore } from "#store/PresenceStore.ts"
import type { ClaimRequest, ClientSession, PresenceTime, SessionTouch } from "#store/presenceTypes.ts"
import { Intervals } from "#time/Intervals.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { Context, Duration, Effect, Layer, Schedule } from "effect"
import { type Client, ClientRegistry } from "./ClientRegistry.ts"
import { makeReleases } from "./presenceReleases.ts"
import { type ClaimError, makeClaims } from "./sessionClaims.ts"

export class Presence extends Context.Service<Presence, {
  /** Makes a new session the durable holder of its client, and fences the writes of the session that held the client before. */
  claim(
    request: ClaimRequest
  ): Effect.Effect<{ readonly session: SessionId; readonly at: PresenceTime }, ClaimError>
  /**
   * Marks the client of an ended session offline and announces that, unless a newer session holds the client. While this node
   * drains the client stays online until the lease of the node ends, because it is about to connect to another node. Never
   * fails: a write is retried until the database has taken it.
   */
  release(client: Client): Effect.Effect<void>
}>()("control/clients/Presence") {
  static readonly layer = Layer.effect(
    Presence,
    Effect.gen(function*() {
      const store = yield* PresenceStore
      const lease = yield* NodeLease
      const release = yield* makeReleases(store)
      const claimPresence = yield* makeClaims(store, release)
      const claimWithChange = yield* makeClaims(store, release)
      yield* touchPeriodically
      yield* sweepPeriodically
      yield* closeTakenOverPeriodically
      return Presence.of({
        // A claim that changes the network waits for the revision counter. Claims of presence alone must not wait with it.
        claim: (request) =>
          request.publicIp === null && request.wireguard === undefined
            ? claimPresence(request)
            : claimWithChange(request),
        release: Effect.fnUntraced(function*({ address, delivery: { rejected: nack }, level, ref, session }) {
          if (!(yield* lease.isDraining)) yield* release({ ref, session, address, level, nack, wasAnnounced: true })
        })
      })
    })
  )
}

/**
 * Writes, in one transaction, every client that was seen or whose delivery state has changed since the last write. A session
 * that another node has taken over is closed.
 */
const touchPeriodically = Effect.gen(function*() {
  const store = yield* PresenceStore
  const lease = yield* NodeLease
  const registry = yield* ClientRegistry
  const events = yield* Events
  const { presenceTouchInterval } = yield* Intervals
  const versions = new PersistedVersions()
  let touchedAt = yield* monotonicMillis
  let knownEpoch = yield* lease.epoch

  const touch = Effect.gen(function*() {
    const now = yield* monotonicMillis
    const clients = yield* registry.newest
    const epoch = yield* lease.epoch
    // A new epoch means that other nodes have marked every client of this node offline, so all clients are written again.
    if (epoch !== knownEpoch) versions.forget(clients)
    const seen = clients.filter((client) => client.lastSeen.millis >= touchedAt || !versions.isPersisted(client))
    // `Deliveries` may change a state while the transaction runs, so the version is read together with the written state.
    const written = seen.map((client) => ({ client, version: client.delivery.version }))
    const touches = seen.map((client) => touchOf(client, now))
    const { at, backOnline, held } = yield* lease.runFenced(store.touch(lease.id, touches))
    touchedAt = now
    knownEpoch = epoch
    for (const { client, version } of written) {
      versions.set(client, version)
      if (!backOnline.has(client.session)) continue
      events.broadcast({ event: "client.online", data: onlineData(client, lease.name) }, at)
    }
    const lost = seen.filter(({ session }) => !held.has(session))
    // Another transaction may merely have locked the row. The next touch writes such a row.
    versions.forget(lost)
    yield* closeLost(store, lost)
  })
  yield* touch.pipe(
    Effect.catchCause((cause) => Effect.logWarning("cannot write presence; retrying", cause)),
    Effect.repeat(Schedule.spaced(presenceTouchInterval)),
    Effect.forkScoped
  )
})

const touchOf = (client: Client, now: number): SessionTouch => ({
  ...sessionOf(client),
  ageMillis: now - client.lastSeen.millis,
  sent: client.delivery.sent,
  applied: client.delivery.acknowledged,
  nack: client.delivery.rejected
})

/** Version of each client's delivery state that the database has. */
class PersistedVersions {
  readonly #versions = new WeakMap<Client, number>()

  /** Version 0 counts as persisted, because a claim writes all that is known of a new session. */
  isPersisted(client: Client): boolean {
    return (this.#versions.get(client) ?? 0) === client.delivery.version
  }

  set(client: Client, version: number): void {
    this.#versions.set(client, version)
  }

  forget(clients: ReadonlyArray<Client>): void {
    for (const client of clients) this.#versions.set(client, Number.NaN)
  }
}

/**
 * Marks clients offline when their node's lease has expired. Only a node that has held its own lease for a full period does
 * this, so that a database outage does not mark live clients offline.
 */
const sweepPeriodically = Effect.gen(function*() {
  const store = yield* PresenceStore
  const lease = yield* NodeLease
  const settings = yield* Settings
  const events = yield* Events
  const { presenceSweepInterval, presenceSweepSlack } = yield* Intervals
  const maxSilence = Duration.sum(settings.heartbeatTimeout, presenceSweepSlack)

  const sweep = Effect.gen(function*() {
    if (!(yield* lease.mayExpireOthers)) return
    const swept = yield* store.expireSessions(maxSilence)
    if (swept.length > 0) yield* Effect.logInfo(`marked ${swept.length} clients offline because their node is lost`)
    for (const { at, node, ...data } of swept) {
      events.broadcast({ event: "client.offline", data: node === null ? data : { ...data, node } }, at)
    }
  })
  yield* sweep.pipe(
    Effect.catchCause((cause) => Effect.logWarning("cannot mark the clients of lost nodes offline; retrying", cause)),
    Effect.repeat(Schedule.spaced(presenceSweepInterval)),
    Effect.forkScoped
  )
})

/** Closes the sessions that the node's mailbox lists as taken over. The next touch detects those that a failed read lost. */
const closeTakenOverPeriodically = Effect.gen(function*() {
  const store = yield* PresenceStore
  const lease = yield* NodeLease
  const registry = yield* ClientRegistry
  const { collectTakeovers } = yield* NodeStore
  const { takeoverPollInterval } = yield* Intervals

  const closeTakenOver = Effect.gen(function*() {
    const takenOver = yield* collectTakeovers(lease.id)
    if (takenOver.size === 0) return
    yield* closeLost(store, (yield* registry.newest).filter(({ session }) => takenOver.has(session)))
  })
  yield* closeTakenOver.pipe(
    Effect.catchCause((cause) =>
      Effect.logWarning("cannot read the sessions that other nodes have taken over; retrying", cause)
    ),
    Effect.repeat(Schedule.spaced(takeoverPollInterval)),
    Effect.forkScoped
  )
})

/**
 * Closes lost sessions. If a newer session has taken the client over, the close code makes the client stop. If a restored
 * database does not know the session, the close code makes the client reconnect. `Revocations` closes deleted clients.
 */
const closeLost = Effect.fnUntraced(function*(store: PresenceStore["Service"], lost: ReadonlyArray<Client>) {
  if (lost.length === 0) return
  const now = yield* monotonicMillis
  const causes = yield* store.classifyLost(
    lost.map((client) => ({ ...sessionOf(client), ageMillis: now - client.since }))
  )
  for (const { peer, session } of lost) {
    if (causes.takenOver.has(session)) peer.close("replaced")
    else if (causes.forgotten.has(session)) peer.close("tryLater")
  }
})

/** The client and session by which the store fences writes. */
const sessionOf = (client: Client): ClientSession => ({ ...client.ref, session: client.session })
