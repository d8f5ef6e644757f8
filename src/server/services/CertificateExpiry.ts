/** The scheduled fiber that tells of certificates that end soon: once over all processes, and in time to renew them. */
import { Events } from "#events/Events.ts"
import { CertificateStore, type Ending } from "#store/CertificateStore.ts"
import { Effect, Layer, Metric, Schedule } from "effect"

/** Days. The nearest one counts; 0 is for what has ended. */
const thresholds = [30, 7, 1, 0]

const every = "1 hour"

/** A node that starts has clients to let in first. */
const after = "30 seconds"

/** Tells of those that nobody has told of, and measures how many there are. */
export const tellOnce = Effect.gen(function*() {
  const store = yield* CertificateStore
  const events = yield* Events
  for (const ending of yield* store.warn(thresholds)) {
    events.tell({ event: "certificate.expiring", data: ending })
    yield* Effect.logWarning(inWords(ending))
  }
  for (const [days, certificates] of yield* store.ending(thresholds)) {
    yield* Metric.update(Metric.withAttributes(expiring, { within: `${days}d` }), certificates)
  }
})

const inWords = ({ days, domain, expiresAt }: Ending): string =>
  days === 0
    ? `the certificate of ${domain} has ended, at ${expiresAt}: visitors are warned off`
    : `the certificate of ${domain} ends within ${
      days === 1 ? "a day" : `${days} days`
    }, at ${expiresAt}, and was not renewed`

export const layer = Layer.effectDiscard(
  tellOnce.pipe(
    Effect.catchCause((cause) => Effect.logWarning("it is not known which certificates end soon; trying again", cause)),
    Effect.repeat(Schedule.spaced(every)),
    Effect.delay(after),
    Effect.forkScoped
  )
)

const expiring = Metric.gauge("control_certificates_expiring", {
  description: "Stored certificates that end within so many days; within 0 days, those that have ended"
})
