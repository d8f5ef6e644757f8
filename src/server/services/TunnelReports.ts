/** Buffers status reports of clients and writes them in batches, with retries; publishes changes of serving. */
import { Events } from "#events/Events.ts"
import { Network } from "#feed/Network.ts"
import * as BucketMap from "#network/BucketMap.ts"
import { scopedGateway, servesTunnel } from "#network/scope.ts"
import { type ClientRef, formatClientRef, type SessionId, TunnelId } from "#schema/ids.ts"
import type { PeerReport, StatusReport, TunnelReportV1 } from "#schema/statusMessage.ts"
import { postgresText } from "#store/postgresText.ts"
import { type PeerFactsReport, ReportStore, type ServingChange, type TunnelStatusReport } from "#store/ReportStore.ts"
import { Cause, Clock, Context, Effect, HashMap, Layer, Option, Queue, Schedule } from "effect"
import { type PendingReport, PendingReports } from "./PendingReports.ts"

/** Reports in one statement. */
const maxBatchSize = 1_000

const limits = { total: 100_000, perReporter: 10_000 }

/** The client that reports, and its session. */
export interface Reporter {
  readonly client: ClientRef
  readonly session: SessionId
}

/** `at`: milliseconds since 1970. */
type Pending<Report> = PendingReport & Omit<Report, "ageMillis"> & { readonly at: number }

export class TunnelReports extends Context.Service<TunnelReports, {
  /**
   * Queues reports; never fails and never waits. The latest report on a tunnel or a peer wins, and a report without news
   * writes nothing. A scoped gateway's report about a tunnel outside its scope is dropped.
   */
  report(reporter: Reporter, status: StatusReport): Effect.Effect<void>
}>()("control/services/TunnelReports") {
  static readonly layer = Layer.effect(
    TunnelReports,
    Effect.gen(function*() {
      const tunnels = new PendingReports<Pending<TunnelStatusReport>>(limits)
      const peers = new PendingReports<Pending<PeerFactsReport>>(limits)
      const wake = yield* Queue.sliding<void>(1)
      const isInView = yield* makeViewCheck
      const write = yield* makeWriter(tunnels, peers)

      const report = Effect.fn("TunnelReports.report")(function*(reporter: Reporter, status: StatusReport) {
        const from = { ...reporter, reporter: formatClientRef(reporter.client), at: yield* Clock.currentTimeMillis }
        const isVisible = yield* isInView(reporter.client)
        for (const tunnel of status.tunnels) {
          if (isVisible(tunnel)) tunnels.set({ ...from, ...toPending(tunnel, status.revision) })
        }
        for (const peer of status.peers ?? []) peers.set({ ...from, subject: peer.id, peer: storablePeer(peer) })
        if (tunnels.size + peers.size > 0) yield* Queue.offer(wake, undefined)
      })

      yield* Queue.take(wake).pipe(
        Effect.andThen(Effect.retry(write, Schedule.spaced("1 second"))),
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause) ? Effect.failCause(cause) : Effect.gen(function*() {
            yield* Effect.logError("dropped status reports; clients will report again", cause)
            tunnels.clear()
            peers.clear()
          })
        ),
        Effect.forever,
        Effect.forkScoped
      )

      return TunnelReports.of({ report })
    })
  )
}

/** Writes all pending reports. Reports that arrive during a write go into the next batch. There is no other delay. */
const makeWriter = Effect.fnUntraced(function*(
  tunnels: PendingReports<Pending<TunnelStatusReport>>,
  peers: PendingReports<Pending<PeerFactsReport>>
) {
  const store = yield* ReportStore
  const events = yield* Events
  return Effect.gen(function*() {
    while (tunnels.size > 0) {
      const batch = tunnels.oldest(maxBatchSize)
      const now = yield* Clock.currentTimeMillis
      const reports = batch.map((report) => ({ ...report, ageMillis: Math.max(0, now - report.at) }))
      const ofAgents = reports.filter(({ client }) => client.type === "agent")
      const ofGateways = reports.filter(({ client }) => client.type === "gateway")
      if (ofAgents.length > 0) yield* store.recordAgentReports(ofAgents)
      const changes = ofGateways.length === 0 ? [] : yield* store.recordGatewayReports(ofGateways)
      for (const report of batch) tunnels.delete(report)
      for (const change of changes) if (isNews(change)) events.broadcast(toEvent(change))
    }
    while (peers.size > 0) {
      const batch = peers.oldest(maxBatchSize)
      const now = yield* Clock.currentTimeMillis
      yield* store.recordPeers(batch.map((report) => ({ ...report, ageMillis: Math.max(0, now - report.at) })))
      for (const report of batch) peers.delete(report)
    }
  })
})

/** A gateway that starts has not failed yet. */
const isNews = ({ previous, status }: ServingChange) => status !== previous && status !== "starting"

const toEvent = ({ detail, domain, gatewayId, status, tunnelId }: ServingChange) => ({
  event: status === "serving" ? "tunnel.serving" as const : "tunnel.not-serving" as const,
  data: { tunnelId, domain, gatewayId, status, detail }
})

/** Whether a report is about a tunnel that a scoped gateway serves. The store checks the agent of a tunnel. */
const makeViewCheck = Effect.gen(function*() {
  const network = yield* Network
  return Effect.fnUntraced(function*(client: ClientRef) {
    if (client.type === "agent") return () => true
    const state = yield* network.state
    const gateway = scopedGateway(state, client.id)
    if (gateway === undefined) return () => true
    return ({ domain = "", id }: TunnelReportV1) => {
      if (id !== undefined) {
        const tunnel = BucketMap.get(state.tunnels, TunnelId.make(id))
        return Option.isSome(tunnel) && servesTunnel(gateway, tunnel.value)
      }
      const named = state.scopeIndex && HashMap.get(state.scopeIndex.tunnelsByName, domain.toLowerCase())
      return named !== undefined && Option.isSome(named) &&
        Array.from(HashMap.values(named.value)).some((tunnel) => servesTunnel(gateway, tunnel))
    }
  })
})

function toPending({ detail, domain, id, status }: TunnelReportV1, revision: number | undefined) {
  const name = domain === undefined ? null : postgresText(domain.toLowerCase())
  return {
    // Domains are stored, and therefore compared, in lower case.
    subject: id ?? `domain ${name ?? ""}`,
    id: id === undefined ? null : postgresText(id),
    domain: name,
    status: postgresText(status),
    detail: detail === undefined ? null : postgresText(detail),
    revision: revision ?? null
  }
}

function storablePeer({ endpoint, id, ...facts }: PeerReport): PeerReport {
  return { ...facts, id: postgresText(id), endpoint: endpoint === null ? null : postgresText(endpoint) }
}
