/** Table of gateways. */
import { gatewayAddresses } from "#network/addresses.ts"
import type { Page, PageRequest } from "#schema/pagination.ts"
import { Gateway, type GatewayPatch, type ScopeInput } from "#schema/resources.ts"
import { AgentId, type GatewayId } from "#schema/ids.ts"
import { Context, Effect, Layer, type Option, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import type { NewClientRow } from "./AgentStore.ts"
import { failOnTakenName, type NameTaken, withHolder } from "./clientNames.ts"
import { lowestFreeNumber } from "./lowestFreeNumber.ts"
import { keysetPages } from "./keysetPages.ts"
import { clientConditions, type ClientFilter } from "./listFilters.ts"
import { presenceColumns, timestampColumns } from "./presenceColumns.ts"
import { Secrets } from "./secrets/Secrets.ts"
import { missing } from "./ReferenceStore.ts"
import { revisionedTransaction, type StoreUnavailable, type WithRevision, withStoreErrors } from "./sql.ts"
import { makeRowReader, type UnreadableRow } from "./UnreadableRow.ts"

/** A new gateway. `serves` is null for a gateway without a scope, which gets the whole network. */
export interface NewGatewayRow extends NewClientRow<GatewayId> {
  readonly publicIp: string | null
  readonly listenPort: number
  readonly serves: ScopeInput | null
}

/** The scope of a gateway (`serves`) names an agent that does not exist. */
export class NoSuchAgentInScope extends Schema.TaggedError<NoSuchAgentInScope>()("NoSuchAgentInScope", {
  id: AgentId,
  index: Schema.Int,
  suggestion: Schema.optional(Schema.String)
}) {
  override get message(): string {
    return `serves.agents.${this.index}: ${missing("agent", this.id, this.suggestion)}`
  }
}

/** Reads and writes gateways. Each write returns the revision that includes it. */
export class GatewayStore extends Context.Service<GatewayStore, {
  /** Inserts the gateway with the lowest free slot. */
  create(
    gateway: NewGatewayRow
  ): Effect.Effect<WithRevision<Gateway>, NameTaken | NoSuchAgentInScope | StoreUnavailable>
  find(id: GatewayId): Effect.Effect<Option.Option<Gateway>, UnreadableRow | StoreUnavailable>
  list(request: PageRequest, filter?: ClientFilter): Effect.Effect<Page<Gateway>, StoreUnavailable>
  /**
   * Changes the gateway; none if no gateway has this id. The new scope may keep deleted agents that the old scope names. An
   * unreadable row stays unchanged.
   */
  update(
    id: GatewayId,
    patch: GatewayPatch
  ): Effect.Effect<
    WithRevision<Option.Option<Gateway>>,
    NameTaken | NoSuchAgentInScope | UnreadableRow | StoreUnavailable
  >
  /** Deletes the gateway with its API keys; false if no gateway has this id. */
  remove(id: GatewayId): Effect.Effect<WithRevision<boolean>, StoreUnavailable>
}>()("control/store/GatewayStore") {
  static readonly layer = Layer.effect(
    GatewayStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal(gatewayColumns)
      const checkScope = makeCheckScope(sql)
      const insert = makeInsert(sql, yield* Secrets)

      const create = Effect.fn("GatewayStore.create")((gateway: NewGatewayRow) =>
        insert(gateway).pipe(failOnTakenName("gateway", gateway.name), revisionedTransaction(sql), withHolder(sql))
      )

      const find = Effect.fn("GatewayStore.find")(function*(id: GatewayId) {
        return yield* gateways.first(yield* withStoreErrors(sql`select ${columns} from gateways where id = ${id}`))
      })

      const list = keysetPages(
        sql,
        { columns: gatewayColumns, from: "gateways", orderBy: "created_at", key: "id" },
        gateways.read,
        clientConditions(sql, "public_ip")
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
        // Clients report `nack`. No update by an operator replaces an unreadable one, so the repair clears it.
        const clearNack = sql`update gateways set nack = null where id = ${id} returning ${columns}`
        return yield* gateways.firstOrRepaired(change, clearNack).pipe(
          failOnTakenName("gateway", patch.name),
          revisionedTransaction(sql),
          withHolder(sql)
        )
      })

      const remove = Effect.fn("GatewayStore.remove")((id: GatewayId) =>
        revisionedTransaction(sql)(
          Effect.map(sql`delete from gateways where id = ${id} returning id`, (rows) => rows.length > 0)
        )
      )

      return GatewayStore.of({ create, find, list, update, remove })
    })
  )
}

/** Inserts a gateway with the lowest free slot. */
const makeInsert = (sql: SqlClient.SqlClient, { writingCipher }: Secrets["Service"]) => {
  const columns = sql.literal(gatewayColumns)
  const checkScope = makeCheckScope(sql)
  return Effect.fnUntraced(function*(gateway: NewGatewayRow) {
    const { id, key, listenPort, name, publicIp, serves, wireguard } = gateway
    yield* checkScope(id, serves)
    const privateKey = (yield* writingCipher(sql)).encrypt(Redacted.value(wireguard.privateKey), {
      table: "gateways",
      column: "wireguard_private_key",
      row: id
    })
    const slot = yield* lowestFreeNumber(sql, "gateways", 0)
    const rows = yield* sql`
      insert into gateways (id, name, public_ip, listen_port, slot, serves, wireguard_public_key, wireguard_private_key)
      values (${id}, ${name}, ${publicIp}, ${listenPort}, ${slot}, ${
      jsonOf(serves)
    }::text::jsonb, ${wireguard.publicKey}, ${privateKey})
      returning ${columns}`
    yield* sql`insert into api_keys (id, gateway_id, hash) values (${key.id}, ${id}, ${key.hash})`
    if (gatewayAddresses("0.0.0.0/24")(slot) === undefined) {
      yield* Effect.logWarning(
        `gateway ${id} has no address inside the agents' subnets, because a /24 subnet has none for slot ${slot}; ` +
          "delete unused gateways and create this one again"
      )
    }
    const [created] = decodeCreated(rows)
    return created
  })
}

/** Requires every agent of the scope to exist, or to be in the stored scope already. */
const makeCheckScope = (sql: SqlClient.SqlClient) =>
  Effect.fnUntraced(function*(id: GatewayId, scope: ScopeInput | null | undefined) {
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
  wireguard_public_key as "wireguardPublicKey", ${presenceColumns}, ${timestampColumns}`

/** Sorts both lists and removes duplicates, so that equal scopes are stored as equal rows. */
export const normalizeScope = ({ agents = [], domains = [] }: ScopeInput) => ({
  agents: [...new Set(agents)].toSorted(),
  domains: [...new Set(domains)].toSorted()
})

const jsonOf = (scope: ScopeInput | null | undefined): string | null =>
  scope == null ? null : JSON.stringify(normalizeScope(scope))

const decodeMissing = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ id: AgentId, index: Schema.Int })))
const decodeCreated = Schema.decodeUnknownSync(Schema.NonEmptyArray(Gateway))

const gateways = makeRowReader(Gateway, ({ id }) => ({ entity: "gateway", id }))
