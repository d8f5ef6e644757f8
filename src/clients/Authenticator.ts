/** Who a key stands for. A right key asks nobody: hashes come in with the feed. A wrong one is refused only on fresh knowledge. */
import { hashApiKey } from "#crypto/apiKeys.ts"
import { Network } from "#feed/Network.ts"
import type { Key, NetworkState } from "#network/NetworkState.ts"
import { addressBlock, type ClientType, nameOf } from "#schema/ids.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { Context, Effect, HashMap, Layer, Metric, Option, Schema } from "effect"
import { type Failures, noteFailure } from "./failures.ts"
import { monotonicMillis } from "./monotonic.ts"

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
      const failures = new Map<string, Failures>()
      const sessions = new Map<string, Spent>()
      const admit = Effect.fnUntraced(function*(key: Key) {
        if (!mayBegin(sessions, nameOf(key.owner), yield* monotonicMillis)) return yield* new TooManySessions()
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
          yield* Effect.sleep(noteFailure(failures, addressBlock(address), yield* monotonicMillis))
          return yield* new InvalidKey()
        }
      )

      return Authenticator.of({ authenticate })
    })
  )
}

/** Sessions of one client at once, and how soon one more is allowed. */
const mostSessions = 30
const millisForOne = 2_000

/** What a client has spent of its sessions: `tokens` were left at the moment `at`. */
interface Spent {
  readonly tokens: number
  readonly at: number
}

/** A token bucket for each client; who is full again is forgotten first. */
function mayBegin(sessions: Map<string, Spent>, name: string, now: number): boolean {
  const before = sessions.get(name)
  const tokens = before === undefined
    ? mostSessions
    : Math.min(mostSessions, before.tokens + (now - before.at) / millisForOne)
  sessions.delete(name)
  sessions.set(name, { tokens: tokens >= 1 ? tokens - 1 : tokens, at: now })
  for (const [oldest, { at }] of sessions) {
    if (now - at < mostSessions * millisForOne) break
    sessions.delete(oldest)
  }
  return tokens >= 1
}

function find(state: NetworkState, hash: string, type: ClientType | undefined): Key | undefined {
  const key = Option.getOrUndefined(HashMap.get(state.keysByHash, hash))
  return type === undefined || key?.owner.type === type ? key : undefined
}

const results = Metric.counter("control_auth_total", { description: "Authentications by result", incremental: true })
const accepted = Metric.withAttributes(results, { result: "accepted" })
const refused = Metric.withAttributes(results, { result: "refused" })
const unavailable = Metric.withAttributes(results, { result: "unavailable" })
