/** What a client tells of its own accord, kept until it has arrived: an agent's status, a gateway's certificates. */
import type { TunnelReport } from "#schema/agentMessages.ts"
import { CertificateObtained } from "#schema/gatewayMessages.ts"
import { Deferred, Effect, Latch, Option, Random, Result, Schema } from "effect"

/** A certificate as `certificate_obtained` carries it. */
export interface Certificate {
  readonly domain: string
  /** PEM: the certificate, then its chain. */
  readonly certificate: string
  /** PEM, not encrypted. */
  readonly privateKey: string
  /** RFC 3339. */
  readonly expiresAt: string
}

/** Control will not have this certificate; to send it again is of no use. */
export class CertificateRejected extends Schema.TaggedError<CertificateRejected>()("CertificateRejected", {
  domain: Schema.String,
  message: Schema.String
}) {}

/** The client was stopped before Control had said that it has the certificate. */
export class ClientStopped extends Schema.TaggedError<ClientStopped>()("ClientStopped", { message: Schema.String }) {}

type Refusal = CertificateRejected | ClientStopped
type Say = (message: object) => void

interface Parcel {
  readonly message: typeof CertificateObtained.Type
  readonly delivered: Deferred.Deferred<void, Refusal>
}

type Answer = { readonly _tag: "Accepted" } | { readonly _tag: "Rejected"; readonly message: string } | {
  readonly _tag: "Later"
}

/** A thousand are allowed; so many with the longest domains and texts fit the size of a message. */
const reportsInOne = 500

export class Reports {
  #tunnels: ReadonlyArray<TunnelReport> = []
  #say: Say | undefined
  /** In the order of sending; the first is on its way. A newer certificate for a domain takes the place of the older. */
  readonly #parcels = new Map<string, Parcel>()
  readonly #some = Latch.makeUnsafe(false)
  #answer: { readonly domain: string; readonly deferred: Deferred.Deferred<Answer> } | undefined
  #isStopped = false

  /** Says it now, or as soon as the client is ready, and again on each new connection: it is the whole list. */
  status(tunnels: ReadonlyArray<TunnelReport>): void {
    this.#tunnels = tunnels
    if (this.#say !== undefined) this.#tell(this.#say)
  }

  /** Returns when Control has stored the certificate, however often and to how many connections it must be said. */
  readonly obtained = Effect.fnUntraced({ self: this }, function*(certificate: Certificate) {
    const { domain } = certificate
    const message = decodeObtained({ type: "certificate_obtained", data: certificate })
    if (Result.isFailure(message)) {
      return yield* new CertificateRejected({ domain, message: "the domain, a text or the time is not one" })
    }
    if (this.#isStopped) return yield* stopped
    const parcel = { message: message.success, delivered: yield* Deferred.make<void, Refusal>() }
    const before = this.#parcels.get(parcel.message.data.domain)
    this.#parcels.set(parcel.message.data.domain, parcel)
    this.#some.openUnsafe()
    if (before !== undefined)
      yield* Effect.forkDetach(Deferred.into(Deferred.await(parcel.delivered), before.delivered))
    return yield* Deferred.await(parcel.delivered)
  })

  /** For the life of one connection that is ready: says what there is, and delivers certificates one after the other. */
  readonly deliver = (say: Say): Effect.Effect<never> =>
    Effect.suspend(() => {
      this.#say = say
      this.#tell(say)
      return Effect.forever(this.#deliverNext(say))
    }).pipe(Effect.ensuring(Effect.sync(() => {
      this.#say = undefined
      this.#answer = undefined
    })))

  accepted(domain: string): void {
    if (this.#answer?.domain === domain)
      Deferred.doneUnsafe(this.#answer.deferred, Effect.succeed({ _tag: "Accepted" }))
  }

  /** An `error` names no domain: it is about the one certificate that is on its way, by its code. */
  refused(code: string, message: string): void {
    if (this.#answer === undefined) return
    const answer: Answer = code === "certificate_rejected" || code === "invalid_message"
      ? { _tag: "Rejected", message }
      : { _tag: "Later" }
    if (answer._tag === "Rejected" || code === "unavailable" || code === "rate_limited") {
      Deferred.doneUnsafe(this.#answer.deferred, Effect.succeed(answer))
    }
  }

  stop(): void {
    this.#isStopped = true
    for (const { delivered } of this.#parcels.values()) Deferred.doneUnsafe(delivered, stopped)
    this.#parcels.clear()
  }

  #tell(say: Say): void {
    for (let from = 0; from < this.#tunnels.length; from += reportsInOne) {
      say({ type: "status", data: { tunnels: this.#tunnels.slice(from, from + reportsInOne) } })
    }
  }

  readonly #deliverNext = Effect.fnUntraced({ self: this }, function*(say: Say) {
    yield* this.#some.await
    const [parcel] = this.#parcels.values()
    if (parcel === undefined) return void this.#some.closeUnsafe()
    const { domain } = parcel.message.data
    for (let attempt = 1; this.#parcels.get(domain) === parcel; attempt += 1) {
      const deferred = yield* Deferred.make<Answer>()
      this.#answer = { domain, deferred }
      say(parcel.message)
      const answer = Option.getOrUndefined(yield* Effect.timeoutOption(Deferred.await(deferred), "30 seconds"))
      this.#answer = undefined
      if (answer?._tag === "Accepted" || answer?._tag === "Rejected") {
        // A newer one that has come meanwhile is delivered for itself.
        if (this.#parcels.get(domain) === parcel) this.#parcels.delete(domain)
        const outcome = answer._tag === "Accepted"
          ? Effect.void
          : Effect.fail(new CertificateRejected({ domain, message: answer.message }))
        yield* Deferred.done(parcel.delivered, yield* Effect.exit(outcome))
      } else yield* Effect.sleep((yield* Random.next) * Math.min(60_000, 1_000 * 2 ** attempt))
    }
  })
}

const stopped = Effect.fail(new ClientStopped({ message: "the client was stopped" }))

const decodeObtained = Schema.decodeUnknownResult(CertificateObtained)
