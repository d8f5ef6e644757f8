/** What the doctor asks the database: counts, and of what is not as it should be the first few. */
import type { Cipher } from "#crypto/Cipher.ts"
import { Clock, Context, Effect, Layer, Result, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { statfs } from "node:fs/promises"
import { readRow } from "./changeRows.ts"
import { migrationsTable } from "./Database.ts"
import { schemaDrift } from "./schemaDrift.ts"
import { isOnline } from "./presenceColumns.ts"
import { everyRow } from "./snapshotRows.ts"
import { atEdge, type StoreUnavailable } from "./sql.ts"

const Named = Schema.Struct({ type: Schema.String, id: Schema.String, name: Schema.String })

const Rows = Schema.Struct({
  masterKey: Schema.NullOr(Schema.String),
  agents: Schema.Int,
  /** The highest place in the pool that an agent has. */
  highestSubnet: Schema.Int,
  certificates: Schema.Array(Schema.Struct({ domain: Schema.String, certificate: Schema.String })),
  tunnels: Schema.Array(Schema.String),
  neverUsedKeys: Schema.Array(Schema.String),
  staleKeys: Schema.Array(Schema.String),
  offlineAgents: Schema.Array(Schema.Struct({ ...Named.fields, tunnels: Schema.Int })),
  offlineGateways: Schema.Array(Named),
  behind: Schema.Array(Schema.Struct({ ...Named.fields, revisions: Schema.Int })),
  refusing: Schema.Array(Schema.Struct({ ...Named.fields, code: Schema.String, message: Schema.String })),
  /** The tables whose next number is not above all that they have. */
  numberedTwice: Schema.Array(Schema.String)
})

/** What the rows say, with the clock of the database beside this process's own. */
export interface Facts extends Schema.Schema.Type<typeof Rows> {
  /** Milliseconds by which the database's clock is ahead, as far as the question's own duration lets one tell. */
  readonly clockSkew: number
}

export interface DiskSpace {
  readonly free: number
  readonly total: number
}

/** A client that is further behind than this is not merely busy. */
const farBehind = 100

export class DoctorStore extends Context.Service<DoctorStore, {
  /** The version of the schema; 0 where there is none. */
  readonly version: Effect.Effect<number, StoreUnavailable>
  readonly facts: Effect.Effect<Facts, StoreUnavailable>
  /** What of the schema is not as the migrations make it; undefined where the role may not create a schema to compare with. */
  readonly drift: Effect.Effect<ReadonlyArray<string> | undefined>
  /** The rows that cannot be read under this key, in words. */
  unreadable(cipher: Cipher): Effect.Effect<ReadonlyArray<string>, StoreUnavailable>
}>()("control/store/DoctorStore") {
  static readonly layer = Layer.effect(
    DoctorStore,
    Effect.map(SqlClient.SqlClient, (sql) =>
      DoctorStore.of({
        version: atEdge(Effect.gen(function*() {
          const [table] = yield* sql`select to_regclass(${migrationsTable}) as there`
          if (table?.["there"] === null) return 0
          const [row] = decodeVersions(
            yield* sql`select coalesce(max(migration_id), 0)::int as version from ${sql(migrationsTable)}`
          )
          return row.version
        })),
        facts: Effect.gen(function*() {
          const clockSkew = yield* skew(sql)
          const rows = decodeRows(yield* atEdge(sql.unsafe(facts)))
          return { ...rows[0].facts, clockSkew }
        }),
        drift: schemaDrift.pipe(
          Effect.provideService(SqlClient.SqlClient, sql),
          Effect.catchCause((cause) => Effect.as(Effect.logDebug("the schema could not be compared", cause), undefined))
        ),
        unreadable: Effect.fn("UpkeepStore.unreadable")(function*(cipher) {
          const rows = yield* atEdge(sql.unsafe<Record<string, unknown>>(everyRow, [0]))
          return rows.flatMap((row) => {
            const change = readRow(row, cipher)
            return Result.isFailure(change) ? [change.failure.message] : []
          })
        })
      }))
  )
}

/** What is left on the disk of a directory; undefined where there is none. */
export const diskSpace = (path: string): Effect.Effect<DiskSpace | undefined> =>
  Effect.promise(() =>
    statfs(path).then(
      ({ bavail, blocks, bsize }) => ({ free: bavail * bsize, total: blocks * bsize }),
      () => undefined
    )
  )

const skew = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const before = yield* Clock.currentTimeMillis
  const [{ now }] = decodeNow(
    yield* atEdge(sql`select extract(epoch from clock_timestamp())::float8 * 1000 as now`)
  )
  const after = yield* Clock.currentTimeMillis
  const outside = now < before ? now - before : now > after ? now - after : 0
  return Math.round(outside)
})

const decodeVersions = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ version: Schema.Int })]))
const decodeNow = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ now: Schema.Finite })]))
const decodeRows = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ facts: Rows })]))

const array = (query: string): string => `(select coalesce(jsonb_agg(x.value), '[]') from (${query}) x)`

const named = `'type', c.type, 'id', c.id, 'name', c.name`

const clients = `(${
  [["agent", "agents"], ["gateway", "gateways"]].map(([type, table]) =>
    `select '${type}' as type, id, name, ${isOnline} as online, sent_revision, applied_revision, nack from ${table}`
  ).join(" union all ")
}) c`

const keys = (condition: string): string =>
  array(`select to_jsonb(coalesce('agent ' || agent_id, 'gateway ' || gateway_id) || ', key ' || id) as value
    from api_keys where ${condition} order by created_at`)

const facts = `select jsonb_build_object(
  'masterKey', (select master_key_id from control_meta),
  'agents', (select count(*) from agents),
  'highestSubnet', (select coalesce(max(subnet_index), -1) from agents),
  'certificates', ${
  array(`select jsonb_build_object('domain', domain, 'certificate', certificate) as value
    from certificates order by domain`)
},
  'tunnels', ${array(`select to_jsonb(domain) as value from tunnels where enabled order by domain`)},
  'neverUsedKeys', ${
  keys(`last_used_at is null and created_at between now() - interval '90 days'
    and now() - interval '1 day'`)
},
  'staleKeys', ${keys(`coalesce(last_used_at, created_at) < now() - interval '90 days'`)},
  'offlineAgents', ${
  array(`select jsonb_build_object(${named}, 'tunnels', count(*)) as value
    from ${clients} join tunnels t on t.agent_id = c.id and t.enabled
    where c.type = 'agent' and not c.online group by c.type, c.id, c.name order by c.name`)
},
  'offlineGateways', ${
  array(`select jsonb_build_object(${named}) as value from ${clients}
    where c.type = 'gateway' and not c.online order by c.name`)
},
  'behind', ${
  array(`select jsonb_build_object(${named}, 'revisions', c.sent_revision - c.applied_revision) as value
    from ${clients} where c.online and c.sent_revision - c.applied_revision > ${farBehind}`)
},
  'refusing', ${
  array(`select jsonb_build_object(${named}, 'code', c.nack ->> 'code', 'message', c.nack ->> 'message') as value
    from ${clients} where c.nack is not null`)
},
  'numberedTwice', ${
  array(
    ["audit", "takeovers"].map((table) =>
      `select to_jsonb('${table}'::text) as value
      where coalesce(pg_sequence_last_value(pg_get_serial_sequence('${table}', 'id')::regclass), 0)
        < (select coalesce(max(id), 0) from ${table})`
    ).join(" union all ")
  )
}) as facts`
