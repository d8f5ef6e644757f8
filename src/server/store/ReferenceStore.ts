/** Finds rows by id or by name, and names that resemble a mistyped one. */
import { Context, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { type StoreUnavailable, withStoreErrors } from "./sql.ts"

/** Rows that have a name. The domain is a name of an http or tls tunnel, and the name of a certificate. */
export type NamedKind = "agent" | "gateway" | "tunnel" | "certificate"

/** The sentence about a name or id that no row has. */
export const missing = (kind: NamedKind, reference: string, suggestion: string | undefined): string =>
  `there is no ${kind} ${reference}${suggestion === undefined ? "" : `; did you mean ${suggestion}?`}`

const columns = {
  agent: { table: "agents", id: "id", name: "name" },
  gateway: { table: "gateways", id: "id", name: "name" },
  tunnel: { table: "tunnels", id: "id", name: "domain" },
  certificate: { table: "certificates", id: "domain", name: "domain" }
} as const

/** Names that are compared with a mistyped one. More would make each mistyped request expensive. */
const maxCandidates = 1_000

export class ReferenceStore extends Context.Service<ReferenceStore, {
  /**
   * The ids of the rows that the references stand for; an unknown reference has no entry. A row with this id comes before a
   * row with this name.
   */
  resolve(
    kind: NamedKind,
    references: ReadonlyArray<string>
  ): Effect.Effect<ReadonlyMap<string, string>, StoreUnavailable>
  /** At most 1,000 names of about the same length, those with the same first letter first. */
  similarNames(kind: NamedKind, name: string): Effect.Effect<ReadonlyArray<string>, StoreUnavailable>
}>()("control/store/ReferenceStore") {
  static readonly layer = Layer.effect(
    ReferenceStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient

      const resolve = Effect.fn("ReferenceStore.resolve")(
        function*(kind: NamedKind, references: ReadonlyArray<string>) {
          const table = sql(columns[kind].table)
          const id = sql(columns[kind].id)
          // Domains are stored in lower case, so that their unique index finds them.
          const hasName = kind === "agent" || kind === "gateway"
            ? sql`control_name_key(name) = control_name_key(given.reference)`
            : kind === "tunnel"
            ? sql`control_name_key(name) = control_name_key(given.reference)`
            : sql`domain = lower(given.reference)`
          // A tcp or udp tunnel may have the domain of another tunnel. A domain comes before an equal name.
          const byDomain =
            sql`(select id from tunnels where domain = lower(given.reference) and protocol in ('http', 'tls'))`
          const rows = yield* withStoreErrors(sql`
            select reference, coalesce((select ${id} from ${table} where ${id} = given.reference),
              ${kind === "tunnel" ? byDomain : sql`null`},
              (select ${id} from ${table} where ${hasName} limit 1)) as id
            from unnest(${references}::text[]) as given (reference)`)
          return new Map(decodeResolved(rows).flatMap(({ id, reference }) => id === null ? [] : [[reference, id]]))
        }
      )

      const similarNames = Effect.fn("ReferenceStore.similarNames")(function*(kind: NamedKind, text: string) {
        const name = sql(columns[kind].name)
        const source = kind === "tunnel"
          ? sql`(select domain from tunnels where protocol in ('http', 'tls') union all select name from tunnels) as names`
          : sql(columns[kind].table)
        const rows = yield* withStoreErrors(sql`
          select ${name} as name from ${source}
          where ${name} is not null and length(${name}) between length(${text}) - 2 and length(${text}) + 2
          order by lower(left(${name}, 1)) = lower(left(${text}, 1)) desc, ${name} limit ${maxCandidates}`)
        return decodeNames(rows).map(({ name }) => name)
      })

      return ReferenceStore.of({ resolve, similarNames })
    })
  )
}

const decodeResolved = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ reference: Schema.String, id: Schema.NullOr(Schema.String) }))
)
const decodeNames = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ name: Schema.String })))
