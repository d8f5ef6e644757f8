/** Bounds how often a client changes its own row by logging in, because every change is stored and sent to other clients. */
import { makeRefusals } from "#events/refusals.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { KeyedBuckets } from "#rateLimit/KeyedBuckets.ts"
import { type ClientRef, formatClientRef } from "#schema/ids.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { Effect, HashMap, Option } from "effect"
import { TooManySessions } from "./Authenticator.ts"

/** A burst of 10, then one a minute: enough for a program that makes a new WireGuard key at each of its restarts. */
const changeLimit = { burst: 10, perSecond: 1 / 60 }
const retryAfterMs = 60_000

/** Returns a function that fails for a client with too many changes of its WireGuard key and its public address. */
export const makeRowChangeLimit = () => {
  const buckets = new KeyedBuckets(changeLimit)
  const refuse = makeRefusals()
  return Effect.fnUntraced(function*(ref: ClientRef, address: string) {
    const client = formatClientRef(ref)
    if (buckets.tryAcquire(client, yield* monotonicMillis)) return
    yield* refuse({
      kind: "login",
      reason: "too_many_changes",
      type: ref.type,
      text:
        `of ${client} from ${address}: more than 10 changes of its WireGuard key or public address in a row, and one a ` +
        "minute; check whether two programs share its API key"
    })
    return yield* new TooManySessions({ retryAfterMs })
  })
}

/** Whether a gateway announces another public address than the stored one. */
export const changesPublicIp = ({ gateways }: NetworkState, ref: ClientRef, publicIp: string | null): boolean =>
  publicIp !== null && ref.type === "gateway" &&
  Option.exists(HashMap.get(gateways, ref.id), (row) => row.publicIp !== publicIp)
