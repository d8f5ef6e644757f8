/** Warns of stored certificates that expire soon, once for the whole cluster. */
import { Events } from "#events/Events.ts"
import { CertificateStore, type ExpiryWarning } from "#store/CertificateStore.ts"
import { Effect, Layer, Metric, Schedule } from "effect"

/**
 * Percent of the validity that is left. Each threshold causes one warning for a certificate; 0 stands for expired certificates.
 * ACME clients renew when a third is left, so that the first warning is one of a renewal that has not happened.
 */
const percents = [25, 8, 2, 0]

const checkInterval = "1 hour"

/** Lets clients reconnect first after a start. */
const startDelay = "30 seconds"

/** Claims the warnings that no node has published, publishes them as events and log lines, and updates the metric. */
export const publishExpiryWarnings = Effect.gen(function*() {
  const store = yield* CertificateStore
  const events = yield* Events
  for (const warning of yield* store.claimExpiryWarnings(percents)) {
    events.broadcast({ event: "certificate.expiring", data: warning })
    yield* Effect.logWarning(warningText(warning))
  }
  for (const [percent, certificates] of yield* store.countExpiring(percents)) {
    yield* Metric.update(Metric.withAttributes(expiringGauge, { left: `${percent}%` }), certificates)
  }
})

const warningText = ({ days, domain, expiresAt, percentLeft }: ExpiryWarning): string =>
  percentLeft === 0
    ? `certificate of ${domain} expired at ${expiresAt}; browsers reject it until a new one is stored`
    : `certificate of ${domain} expires within ${
      days === 1 ? "1 day" : `${days} days`
    }, at ${expiresAt}, and was not renewed`

export const layer = Layer.effectDiscard(
  publishExpiryWarnings.pipe(
    Effect.catchCause((cause) =>
      Effect.logWarning("cannot check for expiring certificates; retrying in 1 hour", cause)
    ),
    Effect.repeat(Schedule.spaced(checkInterval)),
    Effect.delay(startDelay),
    Effect.forkScoped
  )
)

const expiringGauge = Metric.gauge("control_certificates_expiring", {
  description: "Stored certificates of whose validity at most this share is left; 0% counts expired ones"
})
