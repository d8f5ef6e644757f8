/** The table of certificates. Private keys go in encrypted, and come out nowhere here. */
import { Certificate, type Page, type PageRequest } from "#schema/resources.ts"
import type { GatewayId, HostName } from "#schema/ids.ts"
import { Context, Effect, Layer, Option, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { pagesOf } from "./pages.ts"
import { timeColumns } from "./presenceColumns.ts"
import { Secrets } from "./Secrets.ts"
import { atEdge, type StoreUnavailable, write, writing, type Written } from "./sql.ts"

export interface CertificateRow {
  readonly domain: HostName
  readonly certificate: string
  readonly privateKey: Redacted.Redacted
  /** RFC 3339. */
  readonly expiresAt: string
}

/** `unchanged`: the very certificate is stored already. `outlived`: one that ends later is. `unused`: no tunnel that its gateway serves is served by it. */
export type Renewal = "stored" | "unchanged" | "outlived" | "unused"

export class CertificateStore extends Context.Service<CertificateStore, {
  find(domain: HostName): Effect.Effect<Option.Option<Certificate>, StoreUnavailable>
  list(request: PageRequest): Effect.Effect<Page<Certificate>, StoreUnavailable>
  /** Stores it in the place of any other. */
  put(row: CertificateRow): Effect.Effect<Written<Certificate>, StoreUnavailable>
  /** From this gateway: stores it if it serves the domain of a tunnel that the gateway serves and the one that is stored does not end later. */
  renew(gateway: GatewayId, row: CertificateRow): Effect.Effect<Renewal, StoreUnavailable>
  /** Tells whether it was there. */
  remove(domain: HostName): Effect.Effect<Written<boolean>, StoreUnavailable>
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
        return Option.fromUndefinedOr(
          decodeCertificates(yield* atEdge(sql`select ${columns} from certificates where domain = ${domain}`))[0]
        )
      })

      const list = pagesOf(
        sql,
        { columns: certificateColumns, from: "certificates", when: "created_at", key: "domain" },
        decodeCertificates
      )

      const put = Effect.fn("CertificateStore.put")((row: CertificateRow) =>
        write(sql)(Effect.gen(function*() {
          return decodeStored(yield* sql`${yield* upsert(row)} returning ${columns}`)[0]
        }))
      )

      const renew = Effect.fn("CertificateStore.renew")(function*(gateway: GatewayId, row: CertificateRow) {
        const { certificate, domain } = row
        const renewal = Effect.gen(function*() {
          const served = yield* sql`select from tunnels where (domain = ${domain} or (${domain} like '*.%'
            and substring(domain from position('.' in domain)) = substring(${domain} from 2)))
            and exists (select from gateways where gateways.id = ${gateway} and (serves is null
              or serves -> 'agents' @> to_jsonb(agent_id) or serves -> 'domains' @> to_jsonb(domain)
              or serves -> 'domains' @> to_jsonb('*' || substring(domain from position('.' in domain))))) limit 1`
          if (served.length === 0) return "unused" as const
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

      return CertificateStore.of({ find, list, put, renew, remove })
    })
  )
}

const certificateColumns = `domain, certificate, control_iso(expires_at) as "expiresAt", ${timeColumns}`

const decodeCertificates = Schema.decodeUnknownSync(Schema.Array(Certificate))
const decodeStored = Schema.decodeUnknownSync(Schema.NonEmptyArray(Certificate))
