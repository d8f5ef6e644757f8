/** API fields of simulated rows that the table rows do not contain: presence, times, paging. */
import { type ClientRef, formatClientRef, Revision } from "#schema/ids.ts"
import type { Page, PageRequest } from "#schema/pagination.ts"
import type { WithRevision } from "#store/sql.ts"
import type { Database } from "./SimulatedDatabase.ts"
import { epoch } from "./Process.ts"
import type { Entity } from "./databaseTables.ts"

/** Simulated milliseconds as an RFC 3339 timestamp. */
export const toTimestamp = (millis: number): string => new Date(epoch + millis).toISOString()

export const timestampsOf = (database: Database, name: string) => {
  const { created, updated } = database.times.get(name) ?? { created: 0, updated: 0 }
  return { createdAt: toTimestamp(created), updatedAt: toTimestamp(updated) }
}

/** The result of a write with the newest revision, as `write` of the real stores returns it. */
export const withRevision = <A>({ revision }: Database, value: A): WithRevision<A> => ({
  value,
  revision: Revision.make(revision)
})

/** Presence and timestamps of an agent or gateway. */
export const clientFields = (database: Database, ref: ClientRef) => {
  const presence = database.presenceOf(ref)
  const isOnline = presence?.status === "online"
  return {
    status: isOnline ? "online" as const : "offline" as const,
    lastSeenAt: presence === undefined ? null : toTimestamp(presence.lastSeenAt),
    session: isOnline && presence.session !== null
      ? {
        since: toTimestamp(presence.since),
        address: presence.address,
        level: presence.level,
        clientVersion: presence.version
      }
      : null,
    sentRevision: isOnline ? presence.sent : null,
    appliedRevision: isOnline ? presence.applied : null,
    lastNack: presence?.nack ?? null,
    ...timestampsOf(database, formatClientRef(ref))
  }
}

/** One page of a table, ordered by age and id, as the real stores return it. */
export const pageOf = <A>(
  database: Database,
  entity: Entity,
  { after, limit }: PageRequest,
  show: (id: string) => ReadonlyArray<A>
): Page<A> => {
  const created = (id: string) => (epoch + (database.times.get(`${entity}:${id}`)?.created ?? 0)) * 1_000
  const ids = [...database.tables[entity].keys()]
    .toSorted((a, b) => created(a) - created(b) || (a < b ? -1 : 1))
    .filter((id) => after === undefined || created(id) > after.micros || created(id) === after.micros && id > after.id)
  const shown = ids.slice(0, limit)
  const last = ids.length > limit ? shown.at(-1) : undefined
  return {
    items: shown.flatMap(show),
    nextCursor: last === undefined ? null : { micros: created(last), id: last }
  }
}
