/** Table of certificates. Private keys are stored encrypted, and no method here returns them. */
import type { Page, PageRequest } from "#schema/pagination.ts"
import { Certificate } from "#schema/resources.ts"
import { type GatewayId, HostName } from "#schema/ids.ts"
import { Context, Effect, Layer, type Option, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { keysetPages } from "./keysetPages.ts"
import { certificateConditions, type CertificateFilter } from "./listFilters.ts"
import { timestampColumns } from "./presenceColumns.ts"
import { Secrets } from "./secrets/Secrets.ts"
import {
  auditedTransaction,
  revisionedTransaction,
  type StoreUnavailable,
  transaction,
  type WithRevision,
  withStoreErrors
} from "./sql.ts"
import { makeRowReader, type UnreadableRow } from "./UnreadableRow.ts"

/** A certificate to store. */
export interface CertificateRow {
  readonly domain: HostName
  readonly certificate: string
  readonly privateKey: Redacted.Redacted
  /** RFC 3339. */
  readonly expiresAt: string
  /** RFC 3339: start of the validity. */
  readonly validFrom: string
}

/** What a renewal is judged by. */
export interface RenewalFacts {
  /** Whether the gateway is limited by `serves`. */
  readonly isLimited: boolean
  /**
   * The stored certificate (PEM). Its source is the gateway itself, another gateway, an operator, or none: a gateway that was
   * deleted, SQL, or an earlier version of Control.
   */
  readonly stored: {
    readonly certificate: string
    readonly source: "self" | "gateway" | "operator" | "none"
  } | undefined
}

/**
 * `unchanged`: the same certificate is stored already. `outlived`: the stored certificate is newer. `kept`: the gateway may not
 * replace the certificate of another source. `untrusted`: the stored certificate leads to a trusted root, and this one does not.
 * `limited`: the gateway has stored too many certificates.
 */
export type RenewalVerdict = "stored" | "unchanged" | "outlived" | "kept" | "untrusted" | "limited"

/**
 * The outcome of a renewal by a gateway. `unused`: the domain belongs to no tunnel that the gateway serves. `foreign`: a
 * limited gateway has sent a wildcard that its `serves` does not list.
 */
export type RenewalOutcome = RenewalVerdict | "unused" | "foreign"

/** The outcome, and the replaced certificate (PEM), if there was one. */
export interface Renewal {
  readonly outcome: RenewalOutcome
  readonly previous?: string | undefined
}

/** A certificate that has reached a threshold before its expiry. */
export interface ExpiryWarning {
  readonly domain: HostName
  /** RFC 3339. */
  readonly expiresAt: string
  /** The smallest threshold that the certificate has reached, in percent of its validity. */
  readonly percentLeft: number
  /** Whole days until the expiry, rounded up; 0 after it. */
  readonly days: number
}

/** Reads and writes certificates, and records which expiry warnings were published. */
export class CertificateStore extends Context.Service<CertificateStore, {
  find(domain: HostName): Effect.Effect<Option.Option<Certificate>, UnreadableRow | StoreUnavailable>
  list(request: PageRequest, filter?: CertificateFilter): Effect.Effect<Page<Certificate>, StoreUnavailable>
  /** Inserts or replaces the certificate of the domain. */
  put(row: CertificateRow): Effect.Effect<WithRevision<Certificate>, StoreUnavailable>
  /** Stores the certificate of a gateway, if the gateway serves its domain and `decide` says so. */
  renew(
    gateway: GatewayId,
    row: CertificateRow,
    decide: (facts: RenewalFacts) => RenewalVerdict
  ): Effect.Effect<Renewal, StoreUnavailable>
  /** Deletes the certificate; false if the domain has none. */
  remove(domain: HostName): Effect.Effect<WithRevision<boolean>, StoreUnavailable>
  /**
   * The certificates that have newly reached one of the thresholds (percent of the validity that is left), each with its
   * smallest threshold. The database records each warning, so that it is returned once over all nodes.
   */
  claimExpiryWarnings(percents: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<ExpiryWarning>, StoreUnavailable>
  /** For each threshold in percent, the number of certificates that have reached it. */
  countExpiring(percents: ReadonlyArray<number>): Effect.Effect<ReadonlyMap<number, number>, StoreUnavailable>
}>()("control/store/CertificateStore") {
  static readonly layer = Layer.effect(
    CertificateStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { writingCipher } = yield* Secrets
      const columns = sql.literal(certificateColumns)

      const upsert = Effect.fnUntraced(function*(row: CertificateRow) {
        const { certificate, domain, expiresAt, privateKey, validFrom } = row
        const encrypted = (yield* writingCipher(sql)).encrypt(Redacted.value(privateKey), {
          table: "certificates",
          column: "private_key",
          row: domain
        })
        return sql`insert into certificates (domain, certificate, private_key, expires_at, valid_from)
          values (${domain}, ${certificate}, ${encrypted}, ${expiresAt}::timestamptz, ${validFrom}::timestamptz)
          on conflict (domain) do update set certificate = excluded.certificate, private_key = excluded.private_key,
            expires_at = excluded.expires_at, valid_from = excluded.valid_from returning ${columns}`
      })

      const find = Effect.fn("CertificateStore.find")(function*(domain: HostName) {
        return yield* certificates.first(
          yield* withStoreErrors(sql`select ${columns} from certificates where domain = ${domain}`)
        )
      })

      const list = keysetPages(
        sql,
        { columns: certificateColumns, from: "certificates", orderBy: "created_at", key: "domain" },
        certificates.read,
        certificateConditions(sql)
      )

      const put = Effect.fn("CertificateStore.put")((row: CertificateRow) =>
        revisionedTransaction(sql)(Effect.gen(function*() {
          return decodeStored(yield* (yield* upsert(row)))[0]
        }))
      )

      const renew = Effect.fn("CertificateStore.renew")(function*(
        gateway: GatewayId,
        row: CertificateRow,
        decide: (facts: RenewalFacts) => RenewalVerdict
      ) {
        const renewal = Effect.gen(function*() {
          const coverage = yield* readCoverage(sql, gateway, row.domain)
          if (coverage !== "served") return { outcome: coverage } satisfies Renewal
          const facts = yield* readRenewalFacts(sql, gateway, row.domain)
          const outcome = decide(facts)
          if (outcome === "stored") yield* yield* upsert(row)
          return { outcome, previous: facts.stored?.certificate }
        })
        return yield* auditedTransaction(sql)(renewal)
      })

      const remove = Effect.fn("CertificateStore.remove")((domain: HostName) =>
        revisionedTransaction(sql)(
          Effect.map(sql`delete from certificates where domain = ${domain} returning domain`, (rows) => rows.length > 0)
        )
      )

      return CertificateStore.of({ find, list, put, renew, remove, ...expiryQueries(sql) })
    })
  )
}

/**
 * Whether the gateway may store a certificate for `domain`. A limited gateway may store a wildcard only if its `serves` lists
 * that wildcard. An answer that depended on the other tunnels would show whether they exist.
 */
const readCoverage = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, gateway: GatewayId, domain: HostName) {
  const [coverage] = decodeCoverage(
    yield* sql`select serves is null or ${domain} not like '*.%' or serves -> 'domains' @> to_jsonb(${domain}::text) as "isInScope",
      exists (select from tunnels t where (t.domain = ${domain} or (${domain} like '*.%'
          and substring(t.domain from position('.' in t.domain)) = substring(${domain} from 2)))
        and t.protocol = 'http' and (serves is null or serves -> 'agents' @> to_jsonb(t.agent_id) or serves -> 'domains' @> to_jsonb(t.domain)
          or serves -> 'domains' @> to_jsonb('*' || substring(t.domain from position('.' in t.domain))))) as "isUsed"
      from gateways where id = ${gateway}`
  )
  if (coverage?.isInScope === false) return "foreign" as const
  return coverage?.isUsed === true ? "served" as const : "unused" as const
})

/** Locks the domain, also if it has no certificate, until the end of the transaction. */
const readRenewalFacts = Effect.fnUntraced(
  function*(sql: SqlClient.SqlClient, gateway: GatewayId, domain: HostName) {
    yield* sql`select pg_advisory_xact_lock(hashtextextended(${`control certificate ${domain}`}, 0))`
    const [facts] = decodeRenewalFacts(
      yield* sql`select g.serves is not null as "isLimited", case when c.domain is not null then jsonb_build_object(
          'certificate', c.certificate, 'source', case
            when c.source = 'gateway:' || g.id then 'self'
            when c.source like 'gateway:%' and exists (select from gateways o where 'gateway:' || o.id = c.source)
              then 'gateway'
            when c.source is null or c.source like 'gateway:%' or c.source like 'sql:%' then 'none'
            else 'operator' end) end as stored
        from gateways g left join certificates c on c.domain = ${domain} where g.id = ${gateway}`
    )
    return { isLimited: facts.isLimited, stored: facts.stored ?? undefined } satisfies RenewalFacts
  }
)

const decodeRenewalFacts = Schema.decodeUnknownSync(Schema.NonEmptyArray(Schema.Struct({
  isLimited: Schema.Boolean,
  stored: Schema.NullOr(Schema.Struct({
    certificate: Schema.String,
    source: Schema.Literals(["self", "gateway", "operator", "none"])
  }))
})))

/** SQL: the moment at which `percent` of a certificate's validity is left. Without a known start, the validity is 90 days. */
const momentOf = (percent: string) =>
  `expires_at - ${percent} / 100.0 * greatest(expires_at - coalesce(valid_from, expires_at - interval '90 days'), interval '0')`

function expiryQueries(sql: SqlClient.SqlClient) {
  const isReached = sql.literal(`${momentOf("percent")} <= now()`)
  const claimExpiryWarnings = Effect.fn("CertificateStore.claimExpiryWarnings")(
    function*(percents: ReadonlyArray<number>) {
      const rows = yield* transaction(sql)(Effect.andThen(
        sql`delete from expiry_warnings w where not exists
        (select from certificates c where c.domain = w.domain and c.expires_at = w.expires_at)`,
        sql`insert into expiry_warnings (domain, expires_at, percent_left)
        select domain, expires_at, min(percent) from certificates join unnest(${percents}::int[]) as t (percent)
          on ${isReached} group by domain, expires_at order by domain
        on conflict do nothing returning domain, control_iso(expires_at) as "expiresAt", percent_left as "percentLeft",
          greatest(0, ceil(extract(epoch from expires_at - now()) / 86400))::int as days`
      ))
      return decodeExpiryWarnings(rows)
    }
  )

  const countExpiring = Effect.fn("CertificateStore.countExpiring")(function*(percents: ReadonlyArray<number>) {
    const rows = yield* withStoreErrors(sql`select percent, count(domain)::int as certificates
      from unnest(${percents}::int[]) as t (percent) left join certificates on ${isReached} group by percent`)
    return new Map(decodeCounts(rows).map(({ certificates, percent }) => [percent, certificates]))
  })
  return { claimExpiryWarnings, countExpiring }
}

const decodeExpiryWarnings = Schema.decodeUnknownSync(Schema.Array(
  Schema.Struct({ domain: HostName, expiresAt: Schema.String, percentLeft: Schema.Int, days: Schema.Int })
))
const decodeCounts = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ percent: Schema.Int, certificates: Schema.Int }))
)

const certificateColumns = `domain, certificate, control_iso(expires_at) as "expiresAt", source,
  coalesce(withheld, false) as withheld, ${timestampColumns}`

const certificates = makeRowReader(Certificate, ({ domain }) => ({ entity: "certificate", id: domain }))
const decodeCoverage = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ isInScope: Schema.Boolean, isUsed: Schema.Boolean }))
)
const decodeStored = Schema.decodeUnknownSync(Schema.NonEmptyArray(Certificate))
