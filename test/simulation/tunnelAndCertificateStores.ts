/** Tunnel and certificate stores over the simulated database. */
import { httpTunnelFields } from "#support/tunnelFields.ts"
import { AgentId, HostName, Revision, TunnelId } from "#schema/ids.ts"
import type { Certificate } from "#schema/resources.ts"
import type { Tunnel, TunnelPatch } from "#schema/tunnelResources.ts"
import {
  type CertificateRow as Given,
  CertificateStore,
  type Renewal,
  type RenewalFacts,
  type RenewalVerdict
} from "#store/CertificateStore.ts"
import { ReportStore, type TunnelStatusReport } from "#store/ReportStore.ts"
import { DomainTaken, type NewTunnelRow, NoSuchAgent, TunnelStore } from "#store/TunnelStore.ts"
import { Effect, Layer, Option, Redacted } from "effect"
import { gatewayCertificates } from "./certificates.ts"
import type { Database } from "./SimulatedDatabase.ts"
import type { DatabaseLink } from "./DatabaseLink.ts"
import { pageOf, timestampsOf, toTimestamp, withRevision } from "./resourceFields.ts"
import type { CertificateRow, TunnelRow } from "./databaseTables.ts"
import { ConstraintViolated, type Transaction } from "./Transaction.ts"
import { isHttp, isServedBy } from "./expectedViews.ts"

export const tunnelStore = (link: DatabaseLink) => {
  const { database } = link
  const toResource = (id: string): Option.Option<Tunnel> =>
    Option.map(Option.fromUndefinedOr(database.tables.tunnel.get(id)), (row) => tunnelResource(database, row))

  const write = (
    { agentId, domain }: TunnelPatch,
    id: TunnelId,
    body: (tx: Transaction) => void
  ): Effect.Effect<Option.Option<Tunnel>, DomainTaken | NoSuchAgent> => {
    try {
      const before = database.tables.tunnel.get(id)
      database.transact(body)
      if (isReportOutdated(before, database.tables.tunnel.get(id))) database.reports.delete(id)
      return Effect.succeed(toResource(id))
    } catch (error) {
      if (!(error instanceof ConstraintViolated)) throw error
      return error.constraint === "domain"
        ? Effect.fail(new DomainTaken({ domain: domain ?? null }))
        : Effect.fail(new NoSuchAgent({ id: agentId ?? null }))
    }
  }
  const put = (tunnel: NewTunnelRow) =>
    Effect.map(
      write(tunnel, tunnel.id, (tx) => {
        const { agentId, domain, enabled = true, id, protocol, target } = tunnel
        tx.put("tunnel", { id, agentId, domain: domain ?? "", target, enabled, protocol: simulated(protocol) })
      }),
      Option.getOrThrow
    )

  return Layer.succeed(
    TunnelStore,
    TunnelStore.of({
      create: (tunnel) => link.request("create tunnel", () => put(tunnel)),
      put: (tunnel) => link.request("put tunnel", () => put(tunnel)),
      find: (id) => link.request("find tunnel", () => Effect.succeed(toResource(id))),
      list: (request) =>
        link.request(
          "list tunnels",
          () => Effect.succeed(pageOf(database, "tunnel", request, (id) => Option.toArray(toResource(id))))
        ),
      update: (id, patch) =>
        link.request("update tunnel", () =>
          write(patch, id, (tx) => {
            const row = tx.tables.tunnel.get(id)
            if (row === undefined) return
            tx.put("tunnel", {
              id,
              agentId: patch.agentId ?? row.agentId,
              domain: patch.domain ?? row.domain,
              target: patch.target ?? row.target,
              enabled: patch.enabled ?? row.enabled,
              protocol: patch.protocol === undefined ? row.protocol ?? "http" : simulated(patch.protocol)
            })
          })),
      remove: (id) =>
        link.request("remove tunnel", () => {
          const removed = database.transact((tx) => tx.remove("tunnel", id))
          return Effect.succeed({ removed, revision: Revision.make(database.revision) })
        })
    })
  )
}

/** The simulated gateways report nothing. */
export const reportStore = (link: DatabaseLink) =>
  Layer.mock(ReportStore)({
    recordAgentReports: (reports) =>
      link.request("report tunnels", () => Effect.succeed(keepReports(link.database, reports)))
  })

/** The status was reported for another agent, domain or target. */
const isReportOutdated = (before: TunnelRow | undefined, after: TunnelRow | undefined): boolean =>
  before?.agentId !== after?.agentId || before?.domain !== after?.domain || before?.target !== after?.target ||
  before?.protocol !== after?.protocol

const simulated = (protocol: string | undefined): "http" | "tls" => protocol === "tls" ? "tls" : "http"

function keepReports(database: Database, reports: ReadonlyArray<TunnelStatusReport>): number {
  let kept = 0
  for (const { ageMillis, client, detail, domain, session, status } of reports) {
    const tunnel = [...database.tables.tunnel.values()].find((row) =>
      row.domain === domain && row.agentId === client.id
    )
    const before = tunnel === undefined ? undefined : database.reports.get(tunnel.id)
    if (tunnel === undefined || database.presenceOf(client)?.session !== session) continue
    if (before?.status === status && before.session === session && before.detail === detail) continue
    database.reports.set(tunnel.id, { status, detail, session, at: database.world.now - ageMillis })
    kept += 1
  }
  return kept
}

export const certificateStore = (link: DatabaseLink) => {
  const { database } = link
  const toResource = (domain: string): Option.Option<Certificate> =>
    Option.map(
      Option.fromUndefinedOr(database.tables.certificate.get(domain)),
      (row) => certificateResource(database, row)
    )

  return Layer.succeed(
    CertificateStore,
    CertificateStore.of({
      find: (domain) => link.request("find certificate", () => Effect.succeed(toResource(domain))),
      list: (request) =>
        link.request(
          "list certificates",
          () => Effect.succeed(pageOf(database, "certificate", request, (id) => Option.toArray(toResource(id))))
        ),
      put: (row) =>
        link.request("put certificate", () => {
          // Certificates obtained by gateways must go through `renew`, which checks them.
          if (gatewayCertificates().some(({ certificate }) => certificate === row.certificate)) {
            database.world.violate(
              "I16 authority",
              `a gateway's certificate for ${row.domain} was stored without checks`
            )
          }
          database.transact((tx) => tx.put("certificate", rowOf(database, row, "operator")))
          return Effect.succeed(withRevision(database, Option.getOrThrow(toResource(row.domain))))
        }),
      renew: (gateway, row, decide) =>
        link.request("renew certificate", () => Effect.succeed(renew(database, gateway, row, decide))),
      remove: (domain) =>
        link.request("remove certificate", () => {
          const removed = database.transact((tx) => tx.remove("certificate", domain))
          return Effect.succeed(withRevision(database, removed))
        }),
      // Simulated nodes do not send expiry warnings.
      claimExpiryWarnings: () => Effect.succeed([]),
      countExpiring: () => Effect.succeed(new Map())
    })
  )
}

function renew(
  database: Database,
  id: string,
  row: Given,
  decide: (facts: RenewalFacts) => RenewalVerdict
): Renewal {
  const { certificate: stored, gateway, tunnel } = database.tables
  const by = gateway.get(id)
  const isInScope = !row.domain.startsWith("*.") || by?.serves?.domains.includes(row.domain) !== false
  if (!isInScope) return { outcome: "foreign" }
  const isOurs = (one: TunnelRow) =>
    by !== undefined && isHttp(one) && isServedBy(by, one) && isServed(one.domain, row.domain)
  if (![...tunnel.values()].some(isOurs)) return { outcome: "unused" }
  const before = stored.get(row.domain)
  const outcome = decide({
    isLimited: by?.serves !== null,
    stored: before && { certificate: before.certificate, source: sourceOf(before, id, gateway) }
  })
  if (outcome === "stored") database.transact((tx) => tx.put("certificate", rowOf(database, row, id)))
  return { outcome, previous: before?.certificate }
}

function sourceOf(row: CertificateRow, id: string, gateways: ReadonlyMap<string, unknown>) {
  if (row.source === id) return "self"
  if (row.source === "operator") return "operator"
  return row.source !== undefined && gateways.has(row.source) ? "gateway" : "none"
}

/** Whether a certificate for `name` covers a tunnel's domain. */
function isServed(domain: string, name: string): boolean {
  return domain === name || name.startsWith("*.") && domain.slice(domain.indexOf(".")) === name.slice(1)
}

function rowOf({ revision }: Database, given: Given, source: string): CertificateRow {
  const { certificate, domain, expiresAt, privateKey } = given
  return { id: domain, certificate, privateKey: Redacted.value(privateKey), expiresAt, source, written: revision }
}

function tunnelResource(
  database: Database,
  { agentId, domain, enabled, id, port = 0, protocol = "http", target }: TunnelRow
): Tunnel {
  const presence = database.presenceOf({ type: "agent", id: AgentId.make(agentId) })
  const report = database.reports.get(id)
  const reported = presence?.status === "online" && presence.session === report?.session ? report : undefined
  return {
    id: TunnelId.make(id),
    agentId: AgentId.make(agentId),
    domain,
    target,
    enabled,
    ...httpTunnelFields,
    protocol,
    port,
    revision: Revision.make(database.tunnelRevisions.get(id) ?? 0),
    reported: reported === undefined
      ? null
      : { status: reported.status, detail: reported.detail, at: toTimestamp(reported.at) },
    serving: [],
    ...timestampsOf(database, `tunnel:${id}`)
  }
}

function certificateResource(database: Database, { certificate, expiresAt, id, source }: CertificateRow): Certificate {
  return {
    domain: HostName.make(id),
    certificate,
    expiresAt,
    source: source === undefined ? null : source === "operator" ? "control" : `gateway:${source}`,
    withheld: false,
    ...timestampsOf(database, `certificate:${id}`)
  }
}
