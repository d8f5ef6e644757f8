/** The table of gateways. */
import { gatewayAddresses } from "#network/addresses.ts"
import { Gateway, type GatewayPatch, type GivenScope, type Page, type PageRequest } from "#schema/resources.ts"
import { AgentId, type GatewayId } from "#schema/ids.ts"
import { Context, Effect, Layer, type Option, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import type { Identity } from "./AgentStore.ts"
import { lowestFree } from "./lowestFree.ts"
import { keysetPages } from "./keysetPages.ts"
import { presenceColumns, timeColumns } from "./presenceColumns.ts"
import { Secrets } from "./secrets/Secrets.ts"
import { atEdge, type StoreUnavailable, write, type Written } from "./sql.ts"
import { readerOf, type UnreadableRow } from "./UnreadableRow.ts"

export interface NewGatewayRow extends Identity<GatewayId> {
  readonly publicIp: string | null
  readonly listenPort: number
  readonly serves: GivenScope | null
}

/** A scope names an agent that is not there. */
export class NoSuchAgentInScope extends Schema.TaggedError<NoSuchAgentInScope>()("NoSuchAgentInScope", {
  id: AgentId,
  index: Schema.Int
}) {
  override get message(): string {
    return `serves.agents.${this.index}: there is no agent ${this.id}`
  }
}

export class GatewayStore extends Context.Service<GatewayStore, {
  /** Gives it the lowest free slot. */
  create(gateway: NewGatewayRow): Effect.Effect<Written<Gateway>, NoSuchAgentInScope | StoreUnavailable>
  find(id: GatewayId): Effect.Effect<Option.Option<Gateway>, UnreadableRow | StoreUnavailable>
  list(request: PageRequest): Effect.Effect<Page<Gateway>, StoreUnavailable>
  /** An agent that the scope names already may be gone. A row that cannot be read even so stays as it was. */
  update(
    id: GatewayId,
    patch: GatewayPatch
  ): Effect.Effect<Written<Option.Option<Gateway>>, NoSuchAgentInScope | UnreadableRow | StoreUnavailable>
  /** Its keys go with it; tells whether it was there. */
  remove(id: GatewayId): Effect.Effect<Written<boolean>, StoreUnavailable>
}>()("control/store/GatewayStore") {
  static readonly layer = Layer.effect(
    GatewayStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { writingCipher } = yield* Secrets
      const columns = sql.literal(gatewayColumns)

      const checkScope = makeCheckScope(sql)

      const insert = Effect.fnUntraced(function*(gateway: NewGatewayRow) {
        const { id, key, listenPort, name, publicIp, serves, wireguard } = gateway
        yield* checkScope(id, serves)
        const privateKey = (yield* writingCipher(sql)).encrypt(Redacted.value(wireguard.privateKey), {
          table: "gateways",
          column: "wireguard_private_key",
          row: id
        })
        const slot = yield* lowestFree(sql, "gateways", 0)
        const rows = yield* sql`
          insert into gateways (id, name, public_ip, listen_port, slot, serves, wireguard_public_key, wireguard_private_key)
          values (${id}, ${name}, ${publicIp}, ${listenPort}, ${slot}, ${
          jsonOf(serves)
        }::text::jsonb, ${wireguard.publicKey}, ${privateKey})
          returning ${columns}`
        yield* sql`insert into api_keys (id, gateway_id, hash) values (${key.id}, ${id}, ${key.hash})`
        if (gatewayAddresses("0.0.0.0/24")(slot) === undefined) {
          yield* Effect.logWarning(
            `gateway ${id} has no address inside the agents' subnets: they have no room for slot ${slot}`
          )
        }
        const [created] = decodeCreated(rows)
        return created
      })

      const create = Effect.fn("GatewayStore.create")((gateway: NewGatewayRow) => write(sql)(insert(gateway)))

      const find = Effect.fn("GatewayStore.find")(function*(id: GatewayId) {
        return yield* gateways.first(yield* atEdge(sql`select ${columns} from gateways where id = ${id}`))
      })

      const list = keysetPages(
        sql,
        { columns: gatewayColumns, from: "gateways", when: "created_at", key: "id" },
        gateways.read
      )

      const update = Effect.fn("GatewayStore.update")(function*(id: GatewayId, patch: GatewayPatch) {
        const change = Effect.andThen(
          checkScope(id, patch.serves),
          sql`
          update gateways set name = coalesce(${patch.name ?? null}::text, name),
            public_ip = case when ${patch.publicIp === undefined} then public_ip else ${
            patch.publicIp ?? null
          }::text end,
            serves = case when ${patch.serves === undefined} then serves else ${jsonOf(patch.serves)}::text::jsonb end,
            listen_port = coalesce(${patch.listenPort ?? null}::int, listen_port)
          where id = ${id} returning ${columns}`
        )
        // No operator can say anything in the place of what a client has said.
        const forgetNack = sql`update gateways set nack = null where id = ${id} returning ${columns}`
        return yield* write(sql)(gateways.firstOf(change, forgetNack))
      })

      const remove = Effect.fn("GatewayStore.remove")((id: GatewayId) =>
        write(sql)(Effect.map(sql`delete from gateways where id = ${id} returning id`, (rows) => rows.length > 0))
      )

      return GatewayStore.of({ create, find, list, update, remove })
    })
  )
}

/** Every agent that the scope names must be there, or have been named before. */
const makeCheckScope = (sql: SqlClient.SqlClient) =>
  Effect.fnUntraced(function*(id: GatewayId, scope: GivenScope | null | undefined) {
    const agents = scope?.agents ?? []
    if (agents.length === 0) return
    const missing = decodeMissing(
      yield* sql`
    select given.id, given.at::int - 1 as index
    from jsonb_array_elements_text(${JSON.stringify(agents)}::text::jsonb) with ordinality as given (id, at)
    where not exists (select from agents where agents.id = given.id) and not exists
      (select from gateways where gateways.id = ${id} and gateways.serves -> 'agents' @> to_jsonb(given.id))
    order by given.at limit 1`
    )[0]
    if (missing !== undefined) return yield* new NoSuchAgentInScope(missing)
  })

const gatewayColumns = `id, name, public_ip as "publicIp", listen_port as "listenPort", serves,
  wireguard_public_key as "wireguardPublicKey", ${presenceColumns}, ${timeColumns}`

/** Each name once, in both lists, so that rows that mean the same are the same. */
export const scopeOf = ({ agents = [], domains = [] }: GivenScope) => ({
  agents: [...new Set(agents)].toSorted(),
  domains: [...new Set(domains)].toSorted()
})

const jsonOf = (scope: GivenScope | null | undefined): string | null =>
  scope == null ? null : JSON.stringify(scopeOf(scope))

const decodeMissing = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ id: AgentId, index: Schema.Int })))
const decodeCreated = Schema.decodeUnknownSync(Schema.NonEmptyArray(Gateway))

const gateways = readerOf(Gateway, ({ id }) => ({ entity: "gateway", id }))
