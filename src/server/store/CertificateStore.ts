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
}

/**
 * The outcome of a renewal by a gateway. `unchanged`: the same certificate is stored already. `outlived`: the stored
 * certificate expires later. `unused`: the domain belongs to no tunnel that the gateway serves. `foreign`: the domain also
 * belongs to a tunnel that the gateway does not serve.
 */
export type RenewalOutcome = "stored" | "unchanged" | "outlived" | "unused" | "foreign"

/** A certificate that expires within `days`. */
export interface ExpiryWarning {
  readonly domain: HostName
  /** RFC 3339. */
  readonly expiresAt: string
  /** The smallest threshold that the certificate has reached. */
  readonly days: number
}

/** Reads and writes certificates, and records which expiry warnings were published. */
export class CertificateStore extends Context.Service<CertificateStore, {
  find(domain: HostName): Effect.Effect<Option.Option<Certificate>, UnreadableRow | StoreUnavailable>
  list(request: PageRequest, filter?: CertificateFilter): Effect.Effect<Page<Certificate>, StoreUnavailable>
  /** Inserts or replaces the certificate of the domain. */
  put(row: CertificateRow): Effect.Effect<WithRevision<Certificate>, StoreUnavailable>
  /** Stores the certificate of a gateway, if the gateway serves all its tunnels and the stored one does not expire later. */
  renew(gateway: GatewayId, row: CertificateRow): Effect.Effect<RenewalOutcome, StoreUnavailable>
  /** Deletes the certificate; false if the domain has none. */
  remove(domain: HostName): Effect.Effect<WithRevision<boolean>, StoreUnavailable>
  /**
   * The certificates that have newly reached one of the thresholds (days until expiry), each with its smallest threshold. The
   * database records each warning, so that it is returned once over all nodes.
   */
  claimExpiryWarnings(thresholds: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<ExpiryWarning>, StoreUnavailable>
  /** For each threshold in days, the number of certificates that expire within it or have expired. */
  countExpiring(thresholds: ReadonlyArray<number>): Effect.Effect<ReadonlyMap<number, number>, StoreUnavailable>
}>()("control/store/CertificateStore") {
  static readonly layer = Layer.effect(
    CertificateStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { writingCipher } = yield* Secrets
      const columns = sql.literal(certificateColumns)

      const upsert = Effect.fnUntraced(function*({ certificate, domain, expiresAt, privateKey }: CertificateRow) {
        const encrypted = (yield* writingCipher(sql)).encrypt(Redacted.value(privateKey), {
          table: "certificates",
          column: "private_key",
          row: domain
        })
        return sql`insert into certificates (domain, certificate, private_key, expires_at)
          values (${domain}, ${certificate}, ${encrypted}, ${expiresAt}::timestamptz)
          on conflict (domain) do update set certificate = excluded.certificate, private_key = excluded.private_key,
            expires_at = excluded.expires_at`
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
          return decodeStored(yield* sql`${yield* upsert(row)} returning ${columns}`)[0]
        }))
      )

      const renew = Effect.fn("CertificateStore.renew")(function*(gateway: GatewayId, row: CertificateRow) {
        const { certificate, domain } = row
        const renewal = Effect.gen(function*() {
          const covered = decodeCovered(
            yield* sql`select exists (select from gateways where gateways.id = ${gateway} and (serves is null
              or serves -> 'agents' @> to_jsonb(agent_id) or serves -> 'domains' @> to_jsonb(domain)
              or serves -> 'domains' @> to_jsonb('*' || substring(domain from position('.' in domain))))) as served
            from tunnels where domain = ${domain} or (${domain} like '*.%'
              and substring(domain from position('.' in domain)) = substring(${domain} from 2)) group by served`
          )
          if (!covered.some(({ served }) => served)) return "unused" as const
          if (covered.length > 1) return "foreign" as const
          const stored = yield* sql`${yield* upsert(row)} where certificates.expires_at <= excluded.expires_at
            and certificates.certificate <> excluded.certificate returning domain`
          if (stored.length > 0) return "stored" as const
          const same = yield* sql`select from certificates where domain = ${domain} and certificate = ${certificate}`
          return same.length > 0 ? "unchanged" as const : "outlived" as const
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

function expiryQueries(sql: SqlClient.SqlClient) {
  const claimExpiryWarnings = Effect.fn("CertificateStore.claimExpiryWarnings")(
    function*(thresholds: ReadonlyArray<number>) {
      const rows = yield* transaction(sql)(Effect.andThen(
        sql`delete from certificate_warnings w where not exists
        (select from certificates c where c.domain = w.domain and c.expires_at = w.expires_at)`,
        sql`insert into certificate_warnings (domain, expires_at, days)
        select domain, expires_at, min(days) from certificates join unnest(${thresholds}::int[]) as t (days)
          on expires_at <= now() + days * interval '24 hours' group by domain, expires_at order by domain
        on conflict do nothing returning domain, control_iso(expires_at) as "expiresAt", days`
      ))
      return decodeExpiryWarnings(rows)
    }
  )

  const countExpiring = Effect.fn("CertificateStore.countExpiring")(function*(thresholds: ReadonlyArray<number>) {
    const rows = yield* withStoreErrors(sql`select days, count(domain)::int as certificates
      from unnest(${thresholds}::int[]) as t (days) left join certificates on expires_at <= now() + days * interval '24 hours'
      group by days`)
    return new Map(decodeCounts(rows).map(({ certificates, days }) => [days, certificates]))
  })
  return { claimExpiryWarnings, countExpiring }
}

const decodeExpiryWarnings = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ domain: HostName, expiresAt: Schema.String, days: Schema.Int }))
)
const decodeCounts = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ days: Schema.Int, certificates: Schema.Int }))
)

const certificateColumns = `domain, certificate, control_iso(expires_at) as "expiresAt", ${timestampColumns}`

const certificates = makeRowReader(Certificate, ({ domain }) => ({ entity: "certificate", id: domain }))
const decodeCovered = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ served: Schema.Boolean })))
const decodeStored = Schema.decodeUnknownSync(Schema.NonEmptyArray(Certificate))
