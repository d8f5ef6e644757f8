/** Delays, counts, logs and audits requests with wrong admin tokens, each within a bound. */
import { makeRefusals } from "#events/refusals.ts"
import { FailureBackoff } from "#rateLimit/FailureBackoff.ts"
import { Quota } from "#rateLimit/Quota.ts"
import { RecentMap } from "#rateLimit/RecentMap.ts"
import { fullBucket, tryAcquire } from "#rateLimit/TokenBucket.ts"
import { addressBlock } from "#schema/ids.ts"
import type { AdminTokenStore } from "#store/AdminTokenStore.ts"
import { actingAs } from "#store/AuditActor.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { Effect, Schema } from "effect"

/** The token is missing, unknown, revoked or expired. The error does not say which, so that a guess learns nothing. */
export class InvalidToken extends Schema.TaggedError<InvalidToken>()("InvalidToken", {}) {}

/** Too many rejections of wrong tokens are being delayed already, so this one is rejected without a delay. */
export class TooManyFailures extends Schema.TaggedError<TooManyFailures>()("TooManyFailures", {}) {
  override get message(): string {
    return "too many requests with wrong admin tokens; retry later"
  }
}

/** Maximum number of rejections that are delayed at the same time, for one address and in total. */
const delayedLimits = { total: 1_024, perHolder: 16 }

/** Returns the rejections of requests without a token and with a wrong one. */
export const makeTokenRefusals = Effect.fnUntraced(function*(store: AdminTokenStore["Service"]) {
  const failures = new FailureBackoff()
  const delayed = new Quota(delayedLimits)
  const refuse = makeRefusals()
  const audit = yield* makeAudit(store)

  const refused = (reason: "missing_token" | "unknown_token", address: string, text: string) =>
    refuse({ kind: "token", reason, type: "operator", text: `from ${address || "an unknown address"}: ${text}` })

  /** A request without a token guesses nothing, so it is rejected without a delay and not audited. */
  const missing = (from: string | null) =>
    Effect.andThen(
      refused("missing_token", from ?? "", "the request has none; send `Authorization: Bearer TOKEN`"),
      Effect.fail(new InvalidToken())
    )

  const wrong = Effect.fnUntraced(function*(from: string | null) {
    const address = from ?? ""
    const delay = failures.recordFailure(address, yield* monotonicMillis)
    yield* refused("unknown_token", address, "it is unknown, revoked or expired")
    yield* audit(address)
    yield* Effect.acquireUseRelease(
      Effect.suspend(() => {
        const release = delayed.tryAcquire(address)
        return release === undefined ? Effect.fail(new TooManyFailures()) : Effect.succeed(release)
      }),
      () => Effect.sleep(delay),
      (release) => Effect.sync(release)
    )
    return yield* new InvalidToken()
  })

  return { missing, wrong }
})

/** Audit entries of refused tokens at one node: a burst of 20, then 10 an hour. */
const auditRate = { burst: 20, perSecond: 10 / 3_600 }

/** One address gets one entry in this time, so that it neither fills the audit nor hides another address. */
const auditIntervalMillis = 3_600_000

/** Writes audit entries in the background. */
const makeAudit = Effect.fnUntraced(function*(store: AdminTokenStore["Service"]) {
  const scope = yield* Effect.scope
  const audited = new RecentMap<number>(auditIntervalMillis)
  let bucket = fullBucket(auditRate, yield* monotonicMillis)

  return Effect.fnUntraced(function*(address: string) {
    const now = yield* monotonicMillis
    const block = addressBlock(address)
    if (now - (audited.get(block) ?? Number.NEGATIVE_INFINITY) < auditIntervalMillis) return
    const next = tryAcquire(bucket, auditRate, now)
    if (next === undefined) return
    bucket = next
    audited.set(block, now, now)
    yield* store.recordRefusal.pipe(
      actingAs("unknown", address === "" ? null : address),
      Effect.catchCause((cause) => Effect.logDebug("cannot audit a refused admin token", cause)),
      Effect.forkIn(scope)
    )
  })
})
