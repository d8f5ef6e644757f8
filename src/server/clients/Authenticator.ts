/**
 * Resolves an API key to its owner. Known keys are checked against hashes that the feed keeps in memory. An unknown key
 * triggers one catch-up before it is rejected.
 */
import { hashApiKey } from "#crypto/apiKeys.ts"
import { Network } from "#feed/Network.ts"
import type { Key, NetworkState } from "#network/NetworkState.ts"
import { KeyedBuckets } from "#rateLimit/KeyedBuckets.ts"
import { FailureBackoff } from "#rateLimit/FailureBackoff.ts"
import { type ClientType, formatClientRef } from "#schema/ids.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { Context, Effect, HashMap, Layer, Metric, Option, Schema } from "effect"
import { makeRefusals } from "#events/refusals.ts"
import { monotonicMillis } from "#time/monotonic.ts"

/** The key is unknown, revoked, or of the other client type. The client does not learn which, so that keys cannot be probed. */
export class InvalidApiKey extends Schema.TaggedError<InvalidApiKey>()("InvalidApiKey", {}) {}

/** More sessions of one client than allowed: two programs share a key, or one program reconnects in a loop. */
export class TooManySessions extends Schema.TaggedError<TooManySessions>()("TooManySessions", {
  /** Milliseconds after which the client may begin a whole burst of sessions. */
  retryAfterMs: Schema.Int
}) {}

export class Authenticator extends Context.Service<Authenticator, {
  /**
   * Returns the live key with this text. If `type` is given, the key must belong to a client of this type. Repeated failures
   * from one address delay the answer by up to 2 s. A valid key is never delayed.
   */
  authenticate(
    apiKey: string,
    type: ClientType | undefined,
    address: string
  ): Effect.Effect<Key, InvalidApiKey | TooManySessions | StoreUnavailable>
}>()("control/clients/Authenticator") {
  static readonly layer = Layer.effect(
    Authenticator,
    Effect.gen(function*() {
      const network = yield* Network
      const failures = new FailureBackoff()
      const sessionBuckets = new KeyedBuckets(sessionLimit)
      const refuse = makeRefusals()

      const limitSessions = Effect.fnUntraced(function*(key: Key, address: string) {
        const client = formatClientRef(key.owner)
        if (!sessionBuckets.tryAcquire(client, yield* monotonicMillis)) {
          yield* refuse({
            kind: "login",
            reason: "too_many_sessions",
            type: key.owner.type,
            text: `of ${client} from ${address}: more than 30 sessions in a row, and one every 2 s; ` +
              "check whether two programs share its key, or one reconnects in a loop"
          })
          return yield* new TooManySessions({ retryAfterMs: sessionBuckets.refillMillis })
        }
        return yield* Effect.as(Metric.update(accepted, 1), key)
      })

      const authenticate = Effect.fnUntraced(
        function*(apiKey: string, type: ClientType | undefined, address: string) {
          const hash = hashApiKey(apiKey)
          const known = findKey(yield* network.state, hash, type)
          if (known !== undefined) return yield* limitSessions(known, address)
          // The empty text stands for everything that cannot be a key.
          if (apiKey !== "") yield* Effect.tapError(network.catchUp, () => Metric.update(unavailable, 1))
          const current = findKey(yield* network.state, hash, type)
          if (current !== undefined) return yield* limitSessions(current, address)
          yield* Metric.update(refused, 1)
          const isOfOtherType = findKey(yield* network.state, hash, undefined) !== undefined
          const reason = apiKey === "" ? "malformed_key" : isOfOtherType ? "key_of_other_type" : "unknown_key"
          yield* refuse({
            kind: "login",
            reason,
            type: type ?? "unknown",
            text: `of ${type ?? "a client"} from ${address}: ${refusalTexts[reason]}`
          })
          yield* Effect.sleep(failures.recordFailure(address, yield* monotonicMillis))
          return yield* new InvalidApiKey()
        }
      )

      return Authenticator.of({ authenticate })
    })
  )
}

const refusalTexts = {
  malformed_key: "it sent no API key, or text that cannot be one",
  unknown_key: "its API key is unknown or revoked",
  key_of_other_type: "its API key belongs to another type of client"
}

/** Sessions of one client: a burst of 30, then one every 2 s. */
const sessionLimit = { perSecond: 0.5, burst: 30 }

function findKey(state: NetworkState, hash: string, type: ClientType | undefined): Key | undefined {
  const key = Option.getOrUndefined(HashMap.get(state.keysByHash, hash))
  return type === undefined || key?.owner.type === type ? key : undefined
}

const results = Metric.counter("control_auth_total", { description: "Authentications by result", incremental: true })
const accepted = Metric.withAttributes(results, { result: "accepted" })
const refused = Metric.withAttributes(results, { result: "refused" })
const unavailable = Metric.withAttributes(results, { result: "unavailable" })
