/** Database facts for diagnostics (`control doctor`): counts, and the rows that need attention. */
import type { Cipher } from "#crypto/Cipher.ts"
import { Revision } from "#schema/ids.ts"
import { Clock, Context, Effect, Layer, Result, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { statfs } from "node:fs/promises"
import { decodeChange } from "./changeRows.ts"
import { migrationsTable } from "./Database.ts"
import { compareSchema } from "./schemaDrift.ts"
import { onlineCondition } from "./presenceColumns.ts"
import { forEachRowPage } from "./snapshotRows.ts"
import { snapshotTransaction, type StoreUnavailable, withStoreErrors } from "./sql.ts"

const NamedClient = Schema.Struct({ type: Schema.String, id: Schema.String, name: Schema.String })

const RowFacts = Schema.Struct({
  masterKey: Schema.NullOr(Schema.String),
  agents: Schema.Int,
  /** The highest subnet index of an agent; -1 without agents. */
  highestSubnetIndex: Schema.Int,
  certificates: Schema.Array(
    Schema.Struct({
      domain: Schema.String,
      certificate: Schema.String,
      source: Schema.NullOr(Schema.String),
      withheld: Schema.Boolean
    })
  ),
  /** Domains of enabled `http` tunnels, which gateways serve with a certificate. */
  tunnels: Schema.Array(Schema.String),
  neverUsedKeys: Schema.Array(Schema.String),
  staleKeys: Schema.Array(Schema.String),
  offlineAgents: Schema.Array(Schema.Struct({ ...NamedClient.fields, tunnels: Schema.Int })),
  offlineGateways: Schema.Array(NamedClient),
  laggingClients: Schema.Array(Schema.Struct({ ...NamedClient.fields, revisions: Schema.Int })),
  /** For each WireGuard key that several clients have: these clients. */
  sharedKeys: Schema.Array(Schema.Array(NamedClient)),
  rejectingClients: Schema.Array(Schema.Struct({ ...NamedClient.fields, code: Schema.String, message: Schema.String })),
  /** The tables whose sequence is not above their largest id, so that the next insert would fail. */
  outdatedSequences: Schema.Array(Schema.String)
})

/** The facts of the rows, and the skew of the database's clock. */
export interface DatabaseFacts extends Schema.Schema.Type<typeof RowFacts> {
  /**
   * Milliseconds by which the clock of the database is ahead of this process's. 0 if the difference is within the query's
   * duration.
   */
  readonly clockSkew: number
}

/** In bytes. */
export interface DiskSpace {
  readonly free: number
  readonly total: number
}

/** Revisions that a busy client may lag behind. */
const maxNormalLag = 100

/** Reads facts for diagnostics. */
export class DoctorStore extends Context.Service<DoctorStore, {
  /** The version of the schema; 0 without a schema. */
  readonly readSchemaVersion: Effect.Effect<number, StoreUnavailable>
  readonly readFacts: Effect.Effect<DatabaseFacts, StoreUnavailable>
  /**
   * Differences from the schema that the migrations create; undefined if the comparison fails, for example without the
   * right to create a schema.
   */
  readonly findSchemaDrift: Effect.Effect<ReadonlyArray<string> | undefined>
  /** One sentence for each row that cannot be decoded, or decrypted with this cipher. */
  describeUnreadable(cipher: Cipher): Effect.Effect<ReadonlyArray<string>, StoreUnavailable>
}>()("control/store/DoctorStore") {
  static readonly layer = Layer.effect(
    DoctorStore,
    Effect.map(SqlClient.SqlClient, (sql) =>
      DoctorStore.of({
        readSchemaVersion: withStoreErrors(Effect.gen(function*() {
          const [table] = yield* sql`select to_regclass(${migrationsTable}) as there`
          if (table?.["there"] === null) return 0
          const [row] = decodeVersions(
            yield* sql`select coalesce(max(migration_id), 0)::int as version from ${sql(migrationsTable)}`
          )
          return row.version
        })),
        readFacts: Effect.gen(function*() {
          const clockSkew = yield* readClockSkew(sql)
          const rows = decodeRows(yield* withStoreErrors(sql.unsafe(factsQuery)))
          return { ...rows[0].facts, clockSkew }
        }),
        findSchemaDrift: compareSchema.pipe(
          Effect.provideService(SqlClient.SqlClient, sql),
          Effect.catchCause((cause) =>
            Effect.as(Effect.logDebug("cannot compare the schema with the migrations", cause), undefined)
          )
        ),
        describeUnreadable: Effect.fn("DoctorStore.describeUnreadable")(function*(cipher) {
          const sentences: Array<string> = []
          yield* snapshotTransaction(sql)((step) =>
            forEachRowPage(sql, Revision.make(0), (rows) => {
              for (const row of rows) {
                const change = decodeChange(row, cipher)
                if (Result.isFailure(change)) sentences.push(change.failure.message)
              }
              return step
            })
          )
          return sentences
        })
      }))
  )
}

/** Disk space of the file system of a directory; undefined if it cannot be read. */
export const readDiskSpace = (path: string): Effect.Effect<DiskSpace | undefined> =>
  Effect.promise(() =>
    statfs(path).then(
      ({ bavail, blocks, bsize }) => ({ free: bavail * bsize, total: blocks * bsize }),
      () => undefined
    )
  )

const readClockSkew = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const before = yield* Clock.currentTimeMillis
  const [{ now }] = decodeNow(
    yield* withStoreErrors(sql`select extract(epoch from clock_timestamp())::float8 * 1000 as now`)
  )
  const after = yield* Clock.currentTimeMillis
  const outside = now < before ? now - before : now > after ? now - after : 0
  return Math.round(outside)
})

const decodeVersions = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ version: Schema.Int })]))
const decodeNow = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ now: Schema.Finite })]))
const decodeRows = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ facts: RowFacts })]))

const array = (query: string): string => `(select coalesce(jsonb_agg(x.value), '[]') from (${query}) x)`

const named = `'type', c.type, 'id', c.id, 'name', c.name`

const clients = `(${
  [["agent", "agents"], ["gateway", "gateways"]].map(([type, table]) =>
    `select '${type}' as type, id, name, ${onlineCondition} as online, sent_revision, applied_revision, nack,
      wireguard_public_key from ${table}`
  ).join(" union all ")
}) c`

const keys = (condition: string): string =>
  array(`select to_jsonb(coalesce('agent ' || agent_id, 'gateway ' || gateway_id) || ', key ' || id) as value
    from api_keys where ${condition} order by created_at`)

const factsQuery = `select jsonb_build_object(
  'masterKey', (select master_key_id from control_meta),
  'agents', (select count(*) from agents),
  'highestSubnetIndex', (select coalesce(max(subnet_index), -1) from agents),
  'certificates', ${
  array(`select jsonb_build_object('domain', domain, 'certificate', certificate, 'source', source,
      'withheld', coalesce(withheld, false)) as value
    from certificates order by domain`)
},
  'tunnels', ${
  array(`select to_jsonb(domain) as value from tunnels where enabled and protocol = 'http' order by domain`)
},
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
  'laggingClients', ${
  array(`select jsonb_build_object(${named}, 'revisions', c.sent_revision - c.applied_revision) as value
    from ${clients} where c.online and c.sent_revision - c.applied_revision > ${maxNormalLag}`)
},
  'sharedKeys', ${
  array(`select jsonb_agg(jsonb_build_object(${named}) order by c.name) as value
    from ${clients} group by c.wireguard_public_key having count(*) > 1`)
},
  'rejectingClients', ${
  array(`select jsonb_build_object(${named}, 'code', c.nack ->> 'code', 'message', c.nack ->> 'message') as value
    from ${clients} where c.nack is not null`)
},
  'outdatedSequences', ${
  array(
    ["audit", "takeovers"].map((table) =>
      `select to_jsonb('${table}'::text) as value
      where coalesce(pg_sequence_last_value(pg_get_serial_sequence('${table}', 'id')::regclass), 0)
        < (select coalesce(max(id), 0) from ${table})`
    ).join(" union all ")
  )
}) as facts`
