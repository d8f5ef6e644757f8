/** The table of certificates. Private keys go in encrypted, and come out nowhere here. */
import { Certificate, type Page, type PageRequest } from "#schema/resources.ts"
import { type GatewayId, HostName } from "#schema/ids.ts"
import { Context, Effect, Layer, type Option, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { keysetPages } from "./keysetPages.ts"
import { timeColumns } from "./presenceColumns.ts"
import { Secrets } from "./secrets/Secrets.ts"
import { atEdge, type StoreUnavailable, transaction, write, writing, type Written } from "./sql.ts"
import { readerOf, type UnreadableRow } from "./UnreadableRow.ts"

export interface CertificateRow {
  readonly domain: HostName
  readonly certificate: string
  readonly privateKey: Redacted.Redacted
  /** RFC 3339. */
  readonly expiresAt: string
}

/**
 * `unchanged`: the very certificate is stored already. `outlived`: one that ends later is. `unused`: no tunnel that its
 * gateway serves is served by it. `foreign`: a tunnel that its gateway does not serve would be.
 */
export type Renewal = "stored" | "unchanged" | "outlived" | "unused" | "foreign"

export interface Ending {
  readonly domain: HostName
  /** RFC 3339. */
  readonly expiresAt: string
  /** The threshold. */
  readonly days: number
}

export class CertificateStore extends Context.Service<CertificateStore, {
  find(domain: HostName): Effect.Effect<Option.Option<Certificate>, UnreadableRow | StoreUnavailable>
  list(request: PageRequest): Effect.Effect<Page<Certificate>, StoreUnavailable>
  /** Stores it in the place of any other. */
  put(row: CertificateRow): Effect.Effect<Written<Certificate>, StoreUnavailable>
  /** From this gateway: stores it if the gateway serves all tunnels that it is for, and the one that is stored does not end later. */
  renew(gateway: GatewayId, row: CertificateRow): Effect.Effect<Renewal, StoreUnavailable>
  /** Tells whether it was there. */
  remove(domain: HostName): Effect.Effect<Written<boolean>, StoreUnavailable>
  /**
   * The certificates that end within so many days and of which nobody has been told that: whoever asks first is given them,
   * each with the nearest of the thresholds, and nobody else ever is.
   */
  warn(thresholds: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<Ending>, StoreUnavailable>
  /** How many end within so many days, or have ended. */
  ending(thresholds: ReadonlyArray<number>): Effect.Effect<ReadonlyMap<number, number>, StoreUnavailable>
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
          yield* atEdge(sql`select ${columns} from certificates where domain = ${domain}`)
        )
      })

      const list = keysetPages(
        sql,
        { columns: certificateColumns, from: "certificates", when: "created_at", key: "domain" },
        certificates.read
      )

      const put = Effect.fn("CertificateStore.put")((row: CertificateRow) =>
        write(sql)(Effect.gen(function*() {
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
        return yield* writing(sql)(renewal)
      })

      const remove = Effect.fn("CertificateStore.remove")((domain: HostName) =>
        write(sql)(
          Effect.map(sql`delete from certificates where domain = ${domain} returning domain`, (rows) => rows.length > 0)
        )
      )

      return CertificateStore.of({ find, list, put, renew, remove, ...endings(sql) })
    })
  )
}

function endings(sql: SqlClient.SqlClient) {
  const warn = Effect.fn("CertificateStore.warn")(function*(thresholds: ReadonlyArray<number>) {
    const rows = yield* transaction(sql)(Effect.andThen(
      sql`delete from certificate_warnings w where not exists
        (select from certificates c where c.domain = w.domain and c.expires_at = w.expires_at)`,
      sql`insert into certificate_warnings (domain, expires_at, days)
        select domain, expires_at, min(days) from certificates join unnest(${thresholds}::int[]) as t (days)
          on expires_at <= now() + days * interval '24 hours' group by domain, expires_at order by domain
        on conflict do nothing returning domain, control_iso(expires_at) as "expiresAt", days`
    ))
    return decodeEndings(rows)
  })

  const ending = Effect.fn("CertificateStore.ending")(function*(thresholds: ReadonlyArray<number>) {
    const rows = yield* atEdge(sql`select days, count(domain)::int as certificates
      from unnest(${thresholds}::int[]) as t (days) left join certificates on expires_at <= now() + days * interval '24 hours'
      group by days`)
    return new Map(decodeCounts(rows).map(({ certificates, days }) => [days, certificates]))
  })
  return { warn, ending }
}

const decodeEndings = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ domain: HostName, expiresAt: Schema.String, days: Schema.Int }))
)
const decodeCounts = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ days: Schema.Int, certificates: Schema.Int }))
)

const certificateColumns = `domain, certificate, control_iso(expires_at) as "expiresAt", ${timeColumns}`

const certificates = readerOf(Certificate, ({ domain }) => ({ entity: "certificate", id: domain }))
const decodeCovered = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ served: Schema.Boolean })))
const decodeStored = Schema.decodeUnknownSync(Schema.NonEmptyArray(Certificate))
