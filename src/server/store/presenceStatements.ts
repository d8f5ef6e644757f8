/** SQL statements that write presence in batches. Each one skips rows that other transactions have locked. */
import type { RecordedNack } from "#schema/messagesFromClients.ts"
import { Duration, Effect, Option, Redacted, Schema } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import type { Secrets } from "./secrets/Secrets.ts"
import {
  type Claim,
  type ClientSession,
  type EndedSession,
  ExpiredSession,
  type LostSession,
  type SessionTouch
} from "./presenceTypes.ts"
import { tryLockTask } from "./sql.ts"
import { postgresText } from "./postgresText.ts"

/** Rows of a statement before decoding (see presenceResults.ts). */
export type ResultRows = ReadonlyArray<object>

/** The tables with presence columns. */
export type PresenceTable = "agents" | "gateways"

/** Whether a claim can write columns other than presence. Such a write is audited. */
export const writesAuditedColumns = ({ publicIp, wireguard }: Claim): boolean =>
  publicIp !== null || wireguard !== undefined

/**
 * Claims sessions in one table. Returns the clients that were not claimed, and the time of the write. Runs `writing` only
 * if there is a key to encrypt.
 */
export const claimRows = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  writing: ReturnType<Secrets["Service"]["writingCipher"]>,
  node: string,
  table: PresenceTable,
  items: ReadonlyArray<Claim>
) {
  const keyLocation = (row: string) => ({ table, column: "wireguard_private_key", row })
  const cipher = items.some(({ wireguard }) => wireguard?.privateKey) ? yield* writing : undefined
  const privateKeys = items.map(({ id, wireguard }) =>
    cipher && wireguard?.privateKey ? cipher.encrypt(Redacted.value(wireguard.privateKey), keyLocation(id)) : ""
  )
  const hasKeys = items.some(({ wireguard }) => wireguard)
  if (hasKeys) yield* reserveWireguardKeys(sql, table, items)
  const assignments = sql.literal(
    `${table === "gateways" ? publicIpAssignment : ""} ${hasKeys ? wireguardKeyAssignments : ""}`
  )
  return yield* sql`with c as (select * from unnest(${items.map(({ id }) => id)}::text[],
      ${items.map(({ session }) => session)}::text[], ${items.map(({ address }) => address)}::text[],
      ${items.map(({ level }) => level)}::text[], ${items.map(({ version }) => postgresText(version ?? ""))}::text[],
      ${items.map(({ publicIp }) => publicIp ?? "")}::text[],
      ${items.map(({ wireguard }) => wireguard?.publicKey ?? "")}::text[], ${privateKeys}::text[])
      as c (id, session, address, level, version, public_ip, public_key, private_key)),
    free as (select t.id, t.session_id, t.session_node from ${sql(table)} t join c on c.id = t.id ${
    sql.literal(hasKeys ? `where ${holdsKey(table)}` : "")
  } order by t.id for no key update of t skip locked),
    u as (update ${sql(table)} t set ${assignments} status = 'online', last_seen_at = now(), session_id = c.session,
        session_node = ${node}, session_since = now(), session_address = c.address, session_level = c.level,
        session_version = nullif(c.version, ''), sent_revision = null, applied_revision = null, nack = null
      from c join free on free.id = c.id where t.id = c.id returning t.id),
    m as (insert into takeovers (node, session) select session_node, session_id from free
      where session_id is not null and session_node <> ${node}
        and exists (select 1 from nodes n where n.id = session_node))
    select c.id, ${table}::text as kind, exists (select 1 from ${sql(table)} t where t.id = c.id) as "isStored",
      ${sql.literal(hasKeys ? isHeldByAnother(table) : "false")} as "isKeyTaken", null::float8 as at
    from c where not exists (select 1 from u where u.id = c.id)
    union all select null, null, null, null, ${sql.literal(nowMicros)} from (select count(*) from u) as done`
})

/**
 * Reserves the keys that no other client has. A key that another transaction is reserving is waited for. The statement that
 * claims the sessions then sees which client holds each key.
 */
const reserveWireguardKeys = (sql: SqlClient.SqlClient, table: PresenceTable, items: ReadonlyArray<Claim>) => {
  const changing = items.flatMap(({ id, wireguard }) => wireguard === undefined ? [] : [{ id, ...wireguard }])
  return sql`with c as (select * from unnest(${changing.map(({ id }) => id)}::text[],
      ${changing.map(({ publicKey }) => publicKey)}::text[]) as c (id, public_key)),
    free as (select c.* from ${sql(table)} t join c on c.id = t.id where t.wireguard_public_key <> c.public_key
      order by t.id for no key update of t skip locked)
    insert into wireguard_keys (public_key, owner) select c.public_key, ${sql.literal(ownerOfKey(table))} from free c
      order by c.public_key on conflict do nothing`
}

const ownerOfKey = (table: PresenceTable) => `'${table === "agents" ? "agent" : "gateway"}:' || c.id`

const holderOfKey = "(select k.owner from wireguard_keys k where k.public_key = c.public_key)"

/** SQL: the client keeps its key, has its new key already, or has reserved it. */
const holdsKey = (table: PresenceTable) =>
  `(c.public_key in ('', t.wireguard_public_key) or ${holderOfKey} = ${ownerOfKey(table)})`

/** SQL: another client has the key. Clients that have shared a key since before `wireguard_keys` existed keep it. */
const isHeldByAnother = (table: PresenceTable) =>
  `coalesce(${holderOfKey} <> ${ownerOfKey(table)} and not exists (select from ${table} t
    where t.id = c.id and t.wireguard_public_key = c.public_key), false)`

/** Stores the delivery state of sessions in one table. Returns the sessions that still hold their clients. */
export function touchRows(
  sql: SqlClient.SqlClient,
  table: PresenceTable,
  items: ReadonlyArray<SessionTouch>
): Effect.Effect<ResultRows, SqlError.SqlError> {
  return sql`with h as (select * from unnest(${idsIn(items)}::text[], ${items.map(({ session }) => session)}::text[],
      ${items.map(({ ageMillis }) => Math.round(ageMillis))}::bigint[], ${items.map(({ sent }) => sent)}::bigint[],
      ${items.map(({ applied }) => applied ?? -1)}::bigint[], ${items.map(nackText)}::text[])
      as h (id, session, age_ms, sent, applied, nack)),
    free as (select t.id, t.status from ${sql(table)} t join h on h.id = t.id and h.session = t.session_id
      order by t.id for no key update of t skip locked)
    update ${sql(table)} t set status = 'online',
      last_seen_at = now() - h.age_ms * interval '1 millisecond',
      sent_revision = h.sent, applied_revision = nullif(h.applied, -1), nack = nullif(h.nack, '')::jsonb
    from h join free on free.id = h.id
    where t.id = h.id and t.session_id = h.session returning t.session_id as session,
      case when free.status <> 'online' then ${sql.literal(nowMicros)} end as "againAt"`
}

/** Returns for each session that no longer holds its client, whether a later session holds the client. */
export function classifyLostRows(
  sql: SqlClient.SqlClient,
  table: PresenceTable,
  items: ReadonlyArray<LostSession>
): Effect.Effect<ResultRows, SqlError.SqlError> {
  return sql`select h.session, coalesce(t.session_id is not null and
      t.session_since > now() - h.age_ms * interval '1 millisecond', false) as "isTakenOver"
    from unnest(${idsIn(items)}::text[], ${items.map(({ session }) => session)}::text[],
      ${items.map(({ ageMillis }) => Math.round(ageMillis))}::bigint[]) as h (id, session, age_ms)
    join ${sql(table)} t on t.id = h.id where t.session_id is distinct from h.session`
}

/**
 * The time of the write in microseconds, read while the rows are locked, so that a later write of one client has a later
 * time. `now()` is unsuitable, because it is the start of the transaction, which can precede the other write.
 */
const nowMicros = "(extract(epoch from clock_timestamp()) * 1000000)::float8"

const publicIpAssignment = "public_ip = coalesce(nullif(c.public_ip, ''), t.public_ip),"

const wireguardKeyAssignments = `wireguard_public_key = coalesce(nullif(c.public_key, ''), t.wireguard_public_key),
  wireguard_private_key = case when c.public_key = '' then t.wireguard_private_key else nullif(c.private_key, '') end,`

const nackText = ({ nack }: { readonly nack: RecordedNack | undefined }): string =>
  nack === undefined ? "" : JSON.stringify(nack)

const idsIn = (items: ReadonlyArray<ClientSession>): ReadonlyArray<string> => items.map((item) => item.id)

/** Releases sessions in one table. Returns the sessions that were not released with the reason, and the time of the write. */
export function releaseRows(
  sql: SqlClient.SqlClient,
  table: PresenceTable,
  items: ReadonlyArray<EndedSession>
): Effect.Effect<ResultRows, SqlError.SqlError> {
  const sessions = items.map(({ session }) => session)
  return sql`with h as (select * from
      unnest(${idsIn(items)}::text[], ${sessions}::text[], ${items.map(nackText)}::text[]) as h (id, session, nack)),
    free as (select t.id from ${sql(table)} t join h on h.id = t.id and h.session = t.session_id
      order by t.id for no key update of t skip locked),
    u as (update ${sql(table)} t set status = 'offline', session_id = null, nack = nullif(h.nack, '')::jsonb
      from h join free on free.id = h.id where t.id = h.id and t.session_id = h.session returning t.id)
    select h.session, case when t.session_id is null then 'unclaimed' when t.session_id = h.session then 'locked' else 'takenOver' end
      as reason, null::float8 as at from h left join ${sql(table)} t on t.id = h.id
    where not exists (select 1 from u where u.id = h.id)
    union all select null, null, ${sql.literal(nowMicros)} from (select count(*) from u) as done`
}

/**
 * Marks clients offline whose node's lease has expired or whose last touch is older than `limit`. Locks the expired leases,
 * so that a node which returns renews its lease only after this transaction, and then sees a new epoch. Skips a node that
 * is writing now, because that node has locked its lease.
 */
export const expireSessionRows = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, limit: Duration.Duration) {
  if (!(yield* tryLockTask(sql, "sweep"))) return []
  const expiredNodes = decodeIds(yield* sql`select id from nodes where lease_until < now() for update skip locked`)
  const nodes = expiredNodes.map(({ id }) => id)
  const expired = yield* Effect.forEach(
    ["agents", "gateways"] as const,
    (table) =>
      sql`update ${sql(table)} t set status = 'offline' where t.id in
        (select id from ${sql(table)} where status = 'online' and (session_node = any(${nodes}::text[])
          or last_seen_at < now() - make_interval(secs => ${Duration.toSeconds(limit)})) for no key update skip locked)
      returning ${table.slice(0, -1)}::text as "clientType", t.id as "clientId", t.session_id as session,
        t.session_address as address, t.session_level as level, ${sql.literal(nowMicros)} as at,
        (select n.name from nodes n where n.id = t.session_node) as node`
  )
  yield* sql`delete from node_events where told_at < now() - make_interval(secs => ${
    Duration.toSeconds(nodeEventRetention)
  })`
  if (nodes.length === 0) return expired.flat().flatMap((row) => Option.toArray(decodeExpiredSession(row)))
  yield* sql`update nodes set mark = gen_random_uuid() where id = any(${nodes}::text[]) and lease_until > now() - interval '1 hour'`
  yield* sql`delete from nodes n where id = any(${nodes}::text[]) and (draining or lease_until < now() - interval '1 hour')
    and not exists (select 1 from agents where status = 'online' and session_node = n.id)
    and not exists (select 1 from gateways where status = 'online' and session_node = n.id)`
  yield* sql`delete from takeovers t where not exists (select 1 from nodes where id = t.node)`
  return expired.flat().flatMap((row) => Option.toArray(decodeExpiredSession(row)))
})

/** A node that is disconnected for less than this time misses no event of another node. */
const nodeEventRetention = Duration.minutes(1)

const decodeIds = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ id: Schema.String })))
/** None for a row that was marked online by hand, without a session. */
const decodeExpiredSession = Schema.decodeUnknownOption(ExpiredSession)
