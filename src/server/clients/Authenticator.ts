/** Who a key stands for. A right key asks nobody: hashes come in with the feed. A wrong one is refused only on fresh knowledge. */
import { hashApiKey } from "#crypto/apiKeys.ts"
import { Network } from "#feed/Network.ts"
import type { Key, NetworkState } from "#network/NetworkState.ts"
import { KeyedBuckets } from "#rateLimit/KeyedBuckets.ts"
import { FailureBackoff } from "#rateLimit/FailureBackoff.ts"
import { type ClientType, nameOf } from "#schema/ids.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { Context, Effect, HashMap, Layer, Metric, Option, Schema } from "effect"
import { monotonicMillis } from "#time/monotonic.ts"

/** The key is unknown, revoked, or of the other kind of client; which of them is not told. */
export class InvalidKey extends Schema.TaggedError<InvalidKey>()("InvalidKey", {}) {}

/** Two clients that take each other's place over and over, or one that reconnects in a loop. */
export class TooManySessions extends Schema.TaggedError<TooManySessions>()("TooManySessions", {}) {}

export class Authenticator extends Context.Service<Authenticator, {
  /**
   * The live key with this text, for a client of this type if one is given. Failures from one address are answered more and
   * more slowly, up to two seconds; a right key is never slowed.
   */
  authenticate(
    apiKey: string,
    type: ClientType | undefined,
    address: string
  ): Effect.Effect<Key, InvalidKey | TooManySessions | StoreUnavailable>
}>()("control/clients/Authenticator") {
  static readonly layer = Layer.effect(
    Authenticator,
    Effect.gen(function*() {
      const network = yield* Network
      const failures = new FailureBackoff()
      const sessions = new KeyedBuckets(sessionLimit)
      const admit = Effect.fnUntraced(function*(key: Key) {
        if (!sessions.take(nameOf(key.owner), yield* monotonicMillis)) return yield* new TooManySessions()
        return yield* Effect.as(Metric.update(accepted, 1), key)
      })

      const authenticate = Effect.fnUntraced(
        function*(apiKey: string, type: ClientType | undefined, address: string) {
          const hash = hashApiKey(apiKey)
          const known = find(yield* network.state, hash, type)
          if (known !== undefined) return yield* admit(known)
          yield* Effect.tapError(network.catchUp, () => Metric.update(unavailable, 1))
          const fresh = find(yield* network.state, hash, type)
          if (fresh !== undefined) return yield* admit(fresh)
          yield* Metric.update(refused, 1)
          yield* Effect.sleep(failures.note(address, yield* monotonicMillis))
          return yield* new InvalidKey()
        }
      )

      return Authenticator.of({ authenticate })
    })
  )
}

/** Sessions of one client: so many at once, and then one every two seconds. */
const sessionLimit = { perSecond: 0.5, burst: 30 }

function find(state: NetworkState, hash: string, type: ClientType | undefined): Key | undefined {
  const key = Option.getOrUndefined(HashMap.get(state.keysByHash, hash))
  return type === undefined || key?.owner.type === type ? key : undefined
}

const results = Metric.counter("control_auth_total", { description: "Authentications by result", incremental: true })
const accepted = Metric.withAttributes(results, { result: "accepted" })
const refused = Metric.withAttributes(results, { result: "refused" })
const unavailable = Metric.withAttributes(results, { result: "unavailable" })
