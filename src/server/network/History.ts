/** The latest changes by row, from which a client that reconnects gets what it missed. Immutable, bounded. Pure. */
import type { AgentId, ClientRef, GatewayId, Revision, TunnelId } from "#schema/ids.ts"

/** The changed row. */
export type RowRef =
  | { readonly entity: "agent"; readonly id: AgentId }
  | { readonly entity: "gateway"; readonly id: GatewayId }
  | { readonly entity: "tunnel"; readonly id: TunnelId }
  | { readonly entity: "certificate"; readonly id: string }

/** One change of a row, with the facts that the current row no longer shows. */
export type Entry = RowRef & {
  readonly revision: Revision
  /** For a tunnel: its agents before and after the change. */
  readonly agents: ReadonlyArray<AgentId>
  /** For a tunnel: its domains before and after the change. Undefined if the entry was read from the change log. */
  readonly domains?: ReadonlyArray<string>
  /** For an agent or gateway: the part of the client's view that describes the client itself changed. */
  readonly own: boolean
  /** For an agent: its addresses changed, which the gateways' view of its tunnels contains. */
  readonly renumbered: boolean
}

export interface History {
  /** Every change after this revision is in `chunks`. */
  readonly startRevision: Revision
  /** Entries in order of revision, in chunks of at most `chunkSize`. */
  readonly chunks: ReadonlyArray<ReadonlyArray<Entry>>
}

/** Appending copies one chunk and the list of chunks; the oldest chunk is dropped as a whole. */
const chunkSize = 256
const maxChunks = 64

/** Minimum number of entries kept, once this number was appended. */
export const capacity = chunkSize * (maxChunks - 1)

/** A history without entries that begins after this revision. */
export const empty = (startRevision: Revision): History => ({ startRevision, chunks: [] })

/** A history of entries in order of revision, which are all changes after `startRevision`. */
export const fromEntries = (startRevision: Revision, entries: ReadonlyArray<Entry>): History =>
  entries.reduce(append, empty(startRevision))

export function append(history: History, entry: Entry): History {
  const last = history.chunks.at(-1)
  if (last !== undefined && last.length < chunkSize) {
    return {
      startRevision: history.startRevision,
      chunks: history.chunks.with(history.chunks.length - 1, [...last, entry])
    }
  }
  const chunks = [...history.chunks, [entry]]
  if (chunks.length <= maxChunks) return { startRevision: history.startRevision, chunks }
  const [oldest, ...kept] = chunks
  return { startRevision: oldest?.at(-1)?.revision ?? history.startRevision, chunks: kept }
}

/**
 * The entry of this revision, or undefined. Keys have no entries, because no view shows them. A client is created and deleted
 * together with at most two keys, so a revision up to two after an entry belongs to that entry.
 */
export const entryAt = (history: History, revision: Revision): Entry | undefined =>
  history.chunks.findLast((chunk) => (chunk[0]?.revision ?? 0) <= revision)
    ?.findLast((entry) => entry.revision <= revision && entry.revision >= revision - 2)

/** Whether the change affects this client's view. A client sees no other client of the same type. */
export const affects = (entry: Entry, client: ClientRef): boolean => {
  if (entry.entity === client.type) return entry.id === client.id
  if (client.type === "gateway") return true
  return entry.entity === "gateway" || entry.entity === "tunnel" && entry.agents.includes(client.id)
}

/**
 * One entry for each row that changed after this revision and affects the client, in order of revision. Undefined when changes
 * after this revision were dropped. Each is the row's latest entry that affects the client, merged with the earlier ones. An
 * entry that does not affect the client must not move the row to a later revision. Otherwise a client that disconnects before
 * that revision would never receive the earlier changes of the row.
 */
export const entriesSince = (
  history: History,
  revision: Revision,
  client: ClientRef
): ReadonlyArray<Entry> | undefined => {
  if (revision < history.startRevision) return undefined
  const entries = new Map<string, Entry>()
  for (const chunk of history.chunks) {
    if ((chunk.at(-1)?.revision ?? 0) <= revision) continue
    for (const entry of chunk) {
      if (entry.revision <= revision || !affects(entry, client)) continue
      const name = `${entry.entity}:${entry.id}`
      const earlier = entries.get(name)
      entries.set(name, earlier === undefined ? entry : merge(earlier, entry))
    }
  }
  return [...entries.values()].toSorted((one, other) => one.revision - other.revision)
}

function merge(earlier: Entry, later: Entry): Entry {
  return {
    ...later,
    agents: [...new Set([...earlier.agents, ...later.agents])],
    own: earlier.own || later.own,
    renumbered: earlier.renumbered || later.renumbered
  }
}
