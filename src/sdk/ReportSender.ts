/** Sends a client's reports (tunnel status, certificates) and resends them on every new connection. */
import { CertificateObtained } from "#schema/messagesFromGateways.ts"
import type { PeerReport, TunnelReportV1 as TunnelReport } from "#schema/statusMessage.ts"
import { Deferred, Effect, Exit, Latch, Option, Random, Result, Schema } from "effect"
import type { Snapshot } from "./view.ts"

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

/** The protocol's limit of reports about tunnels, and of reports about peers. */
const maxReportsPerMessage = 1_000

/** Size of the reports in one message. Control accepts 256 KiB by default. */
const maxReportBytes = 131_072

/** The protocol allows one report about the peers every 10 s. */
const peersInterval = "10 seconds"

const certificateReplyTimeout = "30 seconds"
const maxCertificateRetryMillis = 60_000

export class ReportSender {
  readonly #applied: () => Snapshot | undefined
  /** The complete list, by id or domain. */
  #tunnels: ReadonlyMap<string, LabelledReport> = new Map()
  /** Reports that were sent on this connection. */
  #sent: ReadonlyMap<string, LabelledReport> = new Map()
  #peers: ReadonlyArray<PeerReport> = []
  readonly #hasPeers = Latch.makeUnsafe(false)
  #send: Send | undefined
  /** By domain, in the order of sending; the first is in flight. A newer certificate for a domain replaces the older one. */
  readonly #pendingCertificates = new Map<string, PendingCertificate>()
  readonly #hasPending = Latch.makeUnsafe(false)
  #awaitedReply: { readonly domain: string; readonly reply: Deferred.Deferred<CertificateReply> } | undefined
  #isStopped = false

  /** `applied`: the snapshot that is applied now. Reports carry its revision. */
  constructor(applied: () => Snapshot | undefined) {
    this.#applied = applied
  }

  /**
   * Sets the complete list of tunnel reports, sends changed reports now if the client is ready, and resends the list on each new
   * connection. A report about a changed tunnel is sent again, because Control forgets reports about the row before.
   */
  setStatus(tunnels: ReadonlyArray<TunnelReport>, peers?: ReadonlyArray<PeerReport>): void {
    const applied = this.#applied()
    this.#tunnels = new Map(tunnels.map((report) => [
      report.id ?? `domain ${report.domain}`,
      {
        report,
        text: JSON.stringify(report),
        revision: applied?.revision,
        row: report.id === undefined ? applied : applied?.view.tunnels.get(report.id)
      }
    ]))
    if (peers !== undefined) {
      this.#peers = peers
      this.#hasPeers.openUnsafe()
    }
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
      this.#sent = new Map()
      this.#sendStatus(send)
      if (this.#peers.length > 0) this.#hasPeers.openUnsafe()
      return Effect.raceFirst(
        Effect.forever(this.#sendNextCertificate(send)),
        Effect.forever(Effect.andThen(this.#sendPeers(send), Effect.sleep(peersInterval)))
      )
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
    const news = Map.groupBy(
      Array.from(this.#tunnels).filter(([key, { row, text }]) => {
        const before = this.#sent.get(key)
        return before?.text !== text || before.row !== row
      }),
      ([, { revision }]) => revision
    )
    this.#sent = this.#tunnels
    for (const [revision, entries] of news) {
      const label = revision === undefined ? {} : { revision }
      for (const tunnels of batches(entries.map(([, { report }]) => report))) {
        send({ type: "status", data: { tunnels, ...label } })
      }
    }
  }

  readonly #sendPeers = Effect.fnUntraced({ self: this }, function*(send: Send) {
    yield* this.#hasPeers.await
    this.#hasPeers.closeUnsafe()
    for (const peers of batches(this.#peers)) send({ type: "status", data: { tunnels: [], peers } })
  })

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

/** A report, and the state that it is about. */
interface LabelledReport {
  readonly report: TunnelReport
  /** The report as JSON. */
  readonly text: string
  /** Applied revision at the time of the report. */
  readonly revision: number | undefined
  /** The applied row of the tunnel. A report by domain is about the whole snapshot. */
  readonly row: object | undefined
}

/** Cuts a list into parts that fit a message. */
function batches<Report>(reports: ReadonlyArray<Report>): ReadonlyArray<ReadonlyArray<Report>> {
  const parts: Array<Array<Report>> = []
  let part: Array<Report> = []
  let bytes = 0
  for (const report of reports) {
    const size = Buffer.byteLength(JSON.stringify(report)) + 1
    if (part.length === 0 || part.length === maxReportsPerMessage || bytes + size > maxReportBytes) {
      part = []
      bytes = 0
      parts.push(part)
    }
    part.push(report)
    bytes += size
  }
  return parts
}

const clientStopped = Effect.fail(new ClientStopped({ message: "the client was stopped" }))

const decodeObtained = Schema.decodeUnknownResult(CertificateObtained)
