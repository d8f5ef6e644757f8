/** Claims sessions in the database, many in one transaction. */
import { NodeLease } from "#cluster/NodeLease.ts"
import { newId } from "#crypto/identifiers.ts"
import { type ClientRef, formatClientRef, SessionId } from "#schema/ids.ts"
import type { PresenceStore } from "#store/PresenceStore.ts"
import type { Claim, ClaimRequest, ClaimResult, ClientSession, PresenceTime } from "#store/presenceTypes.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { eventLoopTurn } from "#time/eventLoop.ts"
import { Deferred, Duration, Effect, Exit, Queue, Schema } from "effect"
import type { EndedClient } from "./presenceReleases.ts"
import { type WireguardKeyRejected, wireguardKeyTaken } from "./wireguardKeys.ts"

/** The client was deleted after its key was found and before its session was claimed. */
export class ClientGone extends Schema.TaggedError<ClientGone>()("ClientGone", {}) {}

/** More than the number of sockets that one process can hold. */
const queueCapacity = 65_536

/** Limits the length of one transaction, and so the wait of each client in it. */
const maxClaimsPerTransaction = 1_000

const maxLoginsPerTurn = 64

/** The gathering ends after this number of event loop turns without a new claim. */
const quietTurns = 3

const lockedRowRetryDelay = Duration.millis(50)

/** 3 s in total, the same time that a statement waits for a lock. */
const maxLockedRowRetries = 60

export type ClaimError = ClientGone | StoreUnavailable | WireguardKeyRejected

interface PendingClaim {
  readonly claim: Claim
  readonly done: Deferred.Deferred<PresenceTime, ClaimError>
  /** Number of retries, each because another transaction had locked the client's row. */
  readonly retries: number
}

/**
 * Runs one transaction at a time. Each transaction takes the claims that arrived since the last one, and waits for more while
 * `quietTurns` turns of the event loop bring another claim. One transaction thus serves hundreds of claims of a login
 * storm, and a lone client waits less than 1 ms.
 */
export const makeClaims = Effect.fnUntraced(function*(
  store: PresenceStore["Service"],
  release: (ended: EndedClient) => Effect.Effect<void>
) {
  const lease = yield* NodeLease
  const scope = yield* Effect.scope
  const queue = yield* Queue.bounded<PendingClaim>(queueCapacity)

  const gather = Effect.gen(function*() {
    const pending = yield* Queue.takeBetween(queue, 1, maxClaimsPerTransaction)
    for (let quiet = 0; quiet < quietTurns && pending.length < maxClaimsPerTransaction;) {
      yield* eventLoopTurn
      const more = Queue.sizeUnsafe(queue) === 0
        ? []
        : yield* Queue.takeBetween(queue, 1, maxClaimsPerTransaction - pending.length)
      pending.push(...more)
      quiet = more.length === 0 ? quiet + 1 : 0
    }
    return pending
  })

  const claimPending = Effect.gen(function*() {
    const pending = yield* gather
    const exit = yield* Effect.exit(lease.runFenced(store.claim(lease.id, pending.map(({ claim }) => claim))))
    if (Exit.isFailure(exit)) {
      yield* Effect.logWarning("cannot claim sessions; their clients are asked to connect again", exit.cause)
      // The transaction may have been committed all the same.
      for (const { claim } of pending) {
        const { address, level, session } = claim
        yield* release({ ref: refOf(claim), session, address, level, nack: undefined, wasAnnounced: false })
      }
    }
    for (const [index, { claim, done, retries }] of pending.entries()) {
      // A login encodes its view at once. The pause lets the event loop serve connected clients between many logins.
      if (index % maxLoginsPerTurn === maxLoginsPerTurn - 1) yield* eventLoopTurn
      const isLocked = Exit.isSuccess(exit) && exit.value.locked.has(formatClientRef(claim))
      if (isLocked && retries < maxLockedRowRetries) yield* retry({ claim, done, retries: retries + 1 })
      else Deferred.doneUnsafe(done, outcomeOf(exit, claim))
    }
  })

  /** The client's row is locked by a touch or by an open transaction. Only the claim of this client waits for the lock. */
  const retry = (pending: PendingClaim) =>
    Effect.forkIn(Effect.andThen(Effect.sleep(lockedRowRetryDelay), Queue.offer(queue, pending)), scope)

  yield* Effect.forkScoped(Effect.forever(claimPending))

  return Effect.fnUntraced(function*(request: ClaimRequest) {
    const session = SessionId.make(newId())
    const done = Deferred.makeUnsafe<PresenceTime, ClaimError>()
    yield* Queue.offer(queue, { claim: { ...request, session }, done, retries: 0 })
    return { session, at: yield* Deferred.await(done) }
  })
})

function outcomeOf(exit: Exit.Exit<ClaimResult, StoreUnavailable>, claim: Claim) {
  if (Exit.isFailure(exit)) return Exit.fail(new StoreUnavailable({ reason: "the session could not be claimed" }))
  if (exit.value.deleted.has(formatClientRef(claim))) return Exit.fail(new ClientGone())
  if (exit.value.keyTaken.has(formatClientRef(claim))) return Exit.fail(wireguardKeyTaken)
  return exit.value.locked.has(formatClientRef(claim))
    ? Exit.fail(new StoreUnavailable({ reason: "the client's row is locked" }))
    : Exit.succeed(exit.value.at)
}

const refOf = (claim: ClientSession): ClientRef =>
  claim.type === "agent" ? { type: claim.type, id: claim.id } : { type: claim.type, id: claim.id }
