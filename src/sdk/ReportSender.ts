/** Sends a client's reports (tunnel status, certificates) and resends them on every new connection. */
import type { TunnelReport } from "#schema/messagesFromAgents.ts"
import { CertificateObtained } from "#schema/messagesFromGateways.ts"
import { Deferred, Effect, Exit, Latch, Option, Random, Result, Schema } from "effect"

/** The data of `certificate_obtained`. */
export interface Certificate {
  readonly domain: string
  /** PEM: the certificate, then its chain. */
  readonly certificate: string
  /** PEM, not encrypted. */
  readonly privateKey: string
  /** RFC 3339. */
  readonly expiresAt: string
}

/** Control has rejected the certificate. Sending the same certificate again cannot succeed. */
export class CertificateRejected extends Schema.TaggedError<CertificateRejected>()("CertificateRejected", {
  domain: Schema.String,
  message: Schema.String
}) {}

/** The client was stopped before Control confirmed the certificate. */
export class ClientStopped extends Schema.TaggedError<ClientStopped>()("ClientStopped", { message: Schema.String }) {}

type SubmitError = CertificateRejected | ClientStopped
type Send = (message: object) => void

interface PendingCertificate {
  readonly message: typeof CertificateObtained.Type
  readonly result: Deferred.Deferred<void, SubmitError>
}

type CertificateReply =
  | { readonly _tag: "Accepted" }
  | { readonly _tag: "Rejected"; readonly message: string }
  | { readonly _tag: "RetryLater" }

/** The protocol allows 1000. 500 reports with the longest domains and texts fit the message size limit. */
const maxReportsPerMessage = 500

const certificateReplyTimeout = "30 seconds"
const maxCertificateRetryMillis = 60_000

export class ReportSender {
  #tunnels: ReadonlyArray<TunnelReport> = []
  #send: Send | undefined
  /** By domain, in the order of sending; the first is in flight. A newer certificate for a domain replaces the older one. */
  readonly #pendingCertificates = new Map<string, PendingCertificate>()
  readonly #hasPending = Latch.makeUnsafe(false)
  #awaitedReply: { readonly domain: string; readonly reply: Deferred.Deferred<CertificateReply> } | undefined
  #isStopped = false

  /** Sets the complete list of tunnel reports, sends it now if the client is ready, and resends it on each new connection. */
  setStatus(tunnels: ReadonlyArray<TunnelReport>): void {
    this.#tunnels = tunnels
    if (this.#send !== undefined) this.#sendStatus(this.#send)
  }

  /** Returns when Control has stored the certificate. Resends across retries and reconnects until then. */
  readonly submitCertificate = Effect.fnUntraced({ self: this }, function*(certificate: Certificate) {
    const { domain } = certificate
    const message = decodeObtained({ type: "certificate_obtained", data: certificate })
    if (Result.isFailure(message)) {
      const reason = "the domain, the certificate, the private key or expiresAt is invalid"
      return yield* new CertificateRejected({ domain, message: reason })
    }
    if (this.#isStopped) return yield* clientStopped
    const pending = { message: message.success, result: yield* Deferred.make<void, SubmitError>() }
    const before = this.#pendingCertificates.get(pending.message.data.domain)
    this.#pendingCertificates.set(pending.message.data.domain, pending)
    this.#hasPending.openUnsafe()
    if (before !== undefined) yield* Effect.forkDetach(Deferred.into(Deferred.await(pending.result), before.result))
    return yield* Deferred.await(pending.result)
  })

  /** Runs as long as one authenticated connection: sends the status, then pending certificates one after the other. */
  readonly runOnConnection = (send: Send): Effect.Effect<never> =>
    Effect.suspend(() => {
      this.#send = send
      this.#sendStatus(send)
      return Effect.forever(this.#sendNextCertificate(send))
    }).pipe(Effect.ensuring(Effect.sync(() => {
      this.#send = undefined
      this.#awaitedReply = undefined
    })))

  certificateAccepted(domain: string): void {
    if (this.#awaitedReply?.domain === domain) {
      Deferred.doneUnsafe(this.#awaitedReply.reply, Effect.succeed({ _tag: "Accepted" }))
    }
  }

  /** Relates an `error` to the certificate in flight by its code, because the message does not name the domain. */
  errorReceived(code: string, message: string): void {
    if (this.#awaitedReply === undefined) return
    const reply: CertificateReply = code === "certificate_rejected" || code === "invalid_message"
      ? { _tag: "Rejected", message }
      : { _tag: "RetryLater" }
    if (reply._tag === "Rejected" || code === "unavailable" || code === "rate_limited") {
      Deferred.doneUnsafe(this.#awaitedReply.reply, Effect.succeed(reply))
    }
  }

  /** Fails all pending certificates with `ClientStopped`. */
  stop(): void {
    this.#isStopped = true
    for (const { result } of this.#pendingCertificates.values()) Deferred.doneUnsafe(result, clientStopped)
    this.#pendingCertificates.clear()
  }

  #sendStatus(send: Send): void {
    for (let from = 0; from < this.#tunnels.length; from += maxReportsPerMessage) {
      send({ type: "status", data: { tunnels: this.#tunnels.slice(from, from + maxReportsPerMessage) } })
    }
  }

  readonly #sendNextCertificate = Effect.fnUntraced({ self: this }, function*(send: Send) {
    yield* this.#hasPending.await
    const [pending] = this.#pendingCertificates.values()
    if (pending === undefined) return void this.#hasPending.closeUnsafe()
    const { domain } = pending.message.data
    for (let attempt = 1; this.#pendingCertificates.get(domain) === pending; attempt += 1) {
      const deferred = yield* Deferred.make<CertificateReply>()
      this.#awaitedReply = { domain, reply: deferred }
      send(pending.message)
      const reply = yield* Effect.timeoutOption(Deferred.await(deferred), certificateReplyTimeout)
      this.#awaitedReply = undefined
      const outcome = Option.getOrElse(reply, (): CertificateReply => ({ _tag: "RetryLater" }))
      if (outcome._tag === "RetryLater") {
        yield* Effect.sleep((yield* Random.next) * Math.min(maxCertificateRetryMillis, 1_000 * 2 ** attempt))
        continue
      }
      // A newer certificate for the domain may have replaced this one; the next call sends the newer one.
      if (this.#pendingCertificates.get(domain) === pending) this.#pendingCertificates.delete(domain)
      yield* Deferred.done(
        pending.result,
        outcome._tag === "Accepted"
          ? Exit.void
          : Exit.fail(new CertificateRejected({ domain, message: outcome.message }))
      )
    }
  })
}

const clientStopped = Effect.fail(new ClientStopped({ message: "the client was stopped" }))

const decodeObtained = Schema.decodeUnknownResult(CertificateObtained)
