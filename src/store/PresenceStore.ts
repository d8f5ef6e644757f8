/** Who is online, in the rows of agents and gateways. Every write is fenced by its session, and many go out as one. */
import type { Cipher } from "#crypto/Cipher.ts"
import type { NotedNack } from "#schema/client.ts"
import {
  AgentId,
  type ClientRef,
  type ClientType,
  GatewayId,
  type KeyId,
  nameOf,
  type Revision,
  SessionId
} from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { ConnectedClient, type Page, type PageRequest } from "#schema/resources.ts"
import { Context, Duration, Effect, Layer, Redacted, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { type Listed, pagesOf } from "./pages.ts"
import { progressColumns } from "./presenceColumns.ts"
import { Secrets } from "./Secrets.ts"
import { type StoreUnavailable, transaction } from "./sql.ts"
import { storable } from "./storable.ts"

/** A session and the client that it stands for. */
export type Held = ClientRef & { readonly session: SessionId }

/** What a session is claimed with. */
export type Wanted = ClientRef & {
  readonly address: string
  /** The protocol level that was agreed on. */
  readonly level: Level
  /** The address that a gateway has told; null keeps the stored one. */
  readonly publicIp: string | null
  /** What it has authenticated with. */
  readonly keyId: KeyId
  /** Name and version of its software, if it told them. */
  readonly version: string | undefined
  /** Its WireGuard keys from now on; left out, the stored ones stay. `privateKey` is null for one that keeps it to itself. */
  readonly wireguard?: WireguardKeys
}

export interface WireguardKeys {
  readonly publicKey: string
  readonly privateKey: Redacted.Redacted | null
}

export type Claim = Wanted & Held

/** A session, how long ago its client last said something, in milliseconds, and how far it has come. */
export type Seen = Held & {
  readonly ageMillis: number
  readonly sent: Revision
  readonly applied: Revision | undefined
  readonly nack: NotedNack | undefined
}

/** A session, and how long ago it began, in milliseconds. */
export type Begun = Held & { readonly ageMillis: number }

/** `taken`: a session that began later holds the client. `undone`: the database was set back to before the session. */
export interface Fates {
  readonly taken: ReadonlySet<SessionId>
  readonly undone: ReadonlySet<SessionId>
}

/** A session that has ended, with what its client has refused last. */
export type Ended = Held & { readonly nack: NotedNack | undefined }

/** By `nameOf`. `gone`: there is no such client. `busy`: somebody's transaction holds its row; nobody else has to wait for that. */
export interface NotClaimed {
  readonly gone: ReadonlySet<string>
  readonly busy: ReadonlySet<string>
}

export class PresenceStore extends Context.Service<PresenceStore, {
  /** Makes these sessions the holders of their clients, the last of two for one client; gives back for whom that failed. */
  claim(node: string, claims: ReadonlyArray<Claim>): Effect.Effect<NotClaimed, StoreUnavailable>
  /** They were heard of lately; gives back those that still hold their client. */
  touch(seen: ReadonlyArray<Seen>): Effect.Effect<ReadonlySet<SessionId>, StoreUnavailable>
  /** What became of sessions that do not hold their client any more; of one whose client is gone, nothing is said. */
  fatesOf(lost: ReadonlyArray<Begun>): Effect.Effect<Fates, StoreUnavailable>
  /** They have ended; a client that has a newer session stays online. */
  release(ended: ReadonlyArray<Ended>): Effect.Effect<void, StoreUnavailable>
  /** Shows as offline who is marked online but was not touched for this long by the database's clock: its node is gone. */
  sweep(limit: Duration.Duration): Effect.Effect<number, StoreUnavailable>
  /** Who is online, whichever node holds the connection. */
  connected(request: PageRequest): Effect.Effect<Page<ConnectedClient>, StoreUnavailable>
}>()("control/store/PresenceStore") {
  static readonly layer = Layer.effect(
    PresenceStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { cipher } = yield* Secrets
      const inTransaction = transaction(sql)

      const forBoth = <Item extends Held>(
        all: ReadonlyArray<Item>,
        run: (table: Table, items: ReadonlyArray<Item>) => Effect.Effect<Rows, SqlError.SqlError>,
        before: ReadonlyArray<Effect.Effect<Rows, SqlError.SqlError>> = []
      ) => {
        const part = (type: ClientType) => {
          const items = sorted(all.filter((item) => item.type === type))
          return items.length === 0 ? Effect.succeed([]) : run(`${type}s`, items)
        }
        return inTransaction(
          Effect.andThen(Effect.all(before, { discard: true }), Effect.all([part("agent"), part("gateway")]))
        )
      }

      const claim = Effect.fn("PresenceStore.claim")(function*(node: string, claims: ReadonlyArray<Claim>) {
        const newest = newestOfEach(claims)
        const left = yield* forBoth(newest, (table, items) => claimIn(sql, cipher, node, table, items), [
          ...(newest.some(changesRow) ? [sql`select set_config('control.actor', 'client', true)`] : []),
          // A key that is being revoked is locked, and is not worth waiting for; a minute more or less is not worth a write.
          sql`update api_keys set last_used_at = now() where id in
            (select id from api_keys where id = any(${newest.map(({ keyId }) => keyId)}::text[])
              and (last_used_at is null or last_used_at < now() - interval '1 minute') for no key update skip locked)`
        ])
        return outcomesOf(left)
      })

      const touch = Effect.fn("PresenceStore.touch")(function*(seen: ReadonlyArray<Seen>) {
        const rows = yield* forBoth(seen, (table, items) => touchIn(sql, table, items))
        return sessionsOf(rows.flat())
      })

      const fatesOf = Effect.fn("PresenceStore.fatesOf")(function*(lost: ReadonlyArray<Begun>) {
        const rows = decodeFates((yield* forBoth(lost, (table, items) => fatesIn(sql, table, items))).flat())
        const those = (taken: boolean) =>
          new Set(rows.filter((row) => row.taken === taken).map(({ session }) => session))
        return { taken: those(true), undone: those(false) }
      })

      const release = Effect.fn("PresenceStore.release")(function*(ended: ReadonlyArray<Ended>) {
        yield* forBoth(ended, (table, items) => {
          const sessions = items.map((item) => item.session)
          return sql`update ${sql(table)} t set status = 'offline', session_id = null, nack = nullif(h.nack, '')::jsonb
            from unnest(${idsIn(items)}::text[], ${sessions}::text[], ${items.map(nackText)}::text[])
              as h (id, session, nack)
            where t.id = h.id and t.session_id = h.session`
        })
      })

      const sweep = Effect.fn("PresenceStore.sweep")(function*(limit: Duration.Duration) {
        const seconds = Duration.toSeconds(limit)
        const rows = yield* inTransaction(
          Effect.all((["agents", "gateways"] as const).map((table) =>
            sql`update ${sql(table)} set status = 'offline'
            where status = 'online' and last_seen_at < now() - make_interval(secs => ${seconds}) returning id`
          ))
        )
        return rows.flat().length
      })

      const connected = pagesOf(sql, connectedClients, decodeConnected)

      return PresenceStore.of({ claim, touch, fatesOf, release, sweep, connected })
    })
  )
}

type Rows = ReadonlyArray<object>

type Table = "agents" | "gateways"

/** Whether a claim may change more than presence: then it is audited. */
const changesRow = ({ publicIp, wireguard }: Claim): boolean => publicIp !== null || wireguard !== undefined

function claimIn(
  sql: SqlClient.SqlClient,
  cipher: Cipher,
  node: string,
  table: Table,
  items: ReadonlyArray<Claim>
): Effect.Effect<Rows, SqlError.SqlError> {
  const place = (row: string) => ({ table, column: "wireguard_private_key", row })
  const privateKeys = items.map(({ id, wireguard }) =>
    wireguard?.privateKey ? cipher.encrypt(Redacted.value(wireguard.privateKey), place(id)) : ""
  )
  const told = sql.literal(
    `${table === "gateways" ? toldAddress : ""} ${items.some(({ wireguard }) => wireguard) ? toldKeys : ""}`
  )
  return sql`with c as (select * from unnest(${items.map(({ id }) => id)}::text[],
      ${items.map(({ session }) => session)}::text[], ${items.map(({ address }) => address)}::text[],
      ${items.map(({ level }) => level)}::text[], ${items.map(({ version }) => storable(version ?? ""))}::text[],
      ${items.map(({ publicIp }) => publicIp ?? "")}::text[],
      ${items.map(({ wireguard }) => wireguard?.publicKey ?? "")}::text[], ${privateKeys}::text[])
      as c (id, session, address, level, version, public_ip, public_key, private_key)),
    free as (select t.id from ${sql(table)} t join c on c.id = t.id order by t.id for no key update of t skip locked),
    u as (update ${sql(table)} t set ${told} status = 'online', last_seen_at = now(), session_id = c.session,
        session_node = ${node}, session_since = now(), session_address = c.address, session_level = c.level,
        session_version = nullif(c.version, ''), sent_revision = null, applied_revision = null, nack = null
      from c join free on free.id = c.id where t.id = c.id returning t.id)
    select c.id, ${table}::text as kind, exists (select 1 from ${sql(table)} t where t.id = c.id) as there
    from c where not exists (select 1 from u where u.id = c.id)`
}

function touchIn(
  sql: SqlClient.SqlClient,
  table: Table,
  items: ReadonlyArray<Seen>
): Effect.Effect<Rows, SqlError.SqlError> {
  return sql`update ${sql(table)} t set status = 'online',
      last_seen_at = now() - h.age_ms * interval '1 millisecond',
      sent_revision = h.sent, applied_revision = nullif(h.applied, -1), nack = nullif(h.nack, '')::jsonb
    from unnest(${idsIn(items)}::text[], ${items.map(({ session }) => session)}::text[],
      ${items.map(({ ageMillis }) => Math.round(ageMillis))}::bigint[], ${items.map(({ sent }) => sent)}::bigint[],
      ${items.map(({ applied }) => applied ?? -1)}::bigint[],
      ${items.map(nackText)}::text[])
      as h (id, session, age_ms, sent, applied, nack)
    where t.id = h.id and t.session_id = h.session returning t.session_id as session`
}

function fatesIn(
  sql: SqlClient.SqlClient,
  table: Table,
  items: ReadonlyArray<Begun>
): Effect.Effect<Rows, SqlError.SqlError> {
  return sql`select h.session, coalesce(t.session_id is not null and
      t.session_since > now() - h.age_ms * interval '1 millisecond', false) as taken
    from unnest(${idsIn(items)}::text[], ${items.map(({ session }) => session)}::text[],
      ${items.map(({ ageMillis }) => Math.round(ageMillis))}::bigint[]) as h (id, session, age_ms)
    join ${sql(table)} t on t.id = h.id where t.session_id is distinct from h.session`
}

const decodeFates = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ session: SessionId, taken: Schema.Boolean }))
)

const toldAddress = "public_ip = coalesce(nullif(c.public_ip, ''), t.public_ip),"

const toldKeys = `wireguard_public_key = coalesce(nullif(c.public_key, ''), t.wireguard_public_key),
  wireguard_private_key = case when c.public_key = '' then t.wireguard_private_key else nullif(c.private_key, '') end,`

function outcomesOf(left: ReadonlyArray<Rows>): NotClaimed {
  const names = (wanted: boolean) =>
    new Set(
      decodeLeft(left.flat()).filter(({ there }) => there === wanted).map(({ id, kind }) =>
        nameOf(
          kind === "agents" ? { type: "agent", id: AgentId.make(id) } : { type: "gateway", id: GatewayId.make(id) }
        )
      )
    )
  return { gone: names(false), busy: names(true) }
}

const decodeLeft = Schema.decodeUnknownSync(
  Schema.Array(
    Schema.Struct({ id: Schema.String, kind: Schema.Literals(["agents", "gateways"]), there: Schema.Boolean })
  )
)

const nackText = ({ nack }: { readonly nack: NotedNack | undefined }): string =>
  nack === undefined ? "" : JSON.stringify(nack)

const idsIn = (items: ReadonlyArray<Held>): ReadonlyArray<string> => items.map((item) => item.id)

const everyConnected = `(${
  [["agent", "agents"], ["gateway", "gateways"]].map(([type, table]) =>
    `select '${type}' as type, id, name, session_since, session_address, session_level, session_version, last_seen_at,
      sent_revision, applied_revision, nack from ${table}
      where status = 'online' and session_id is not null`
  ).join(" union all ")
}) as connected`

const connectedClients: Listed = {
  columns: `type as "clientType", id as "clientId", name, control_iso(session_since) as since,
    session_address as address, session_level as level, session_version as "clientVersion",
    control_iso(last_seen_at) as "lastSeenAt", ${progressColumns}`,
  from: everyConnected,
  when: "session_since",
  key: "type || ':' || id"
}

const decodeConnected = Schema.decodeUnknownSync(Schema.Array(ConnectedClient))

const sessionsOf = (rows: ReadonlyArray<unknown>): ReadonlySet<SessionId> =>
  new Set(decodeSessions(rows).map((row) => row.session))
const decodeSessions = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ session: SessionId })))

/** One order for all, so that two nodes that write the same rows never wait for each other in a circle. */
function sorted<Item extends Held>(items: ReadonlyArray<Item>): ReadonlyArray<Item> {
  return items.toSorted((a, b) => a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
}

function newestOfEach(claims: ReadonlyArray<Claim>): ReadonlyArray<Claim> {
  return [...new Map(claims.map((claim) => [nameOf(claim), claim])).values()]
}
