/** Which rows the latest changes touched: enough to tell a client that comes back what it missed. Immutable, bounded. Pure. */
import type { AgentId, ClientRef, GatewayId, Revision, TunnelId } from "#schema/ids.ts"

/** The row that was touched. */
export type Row =
  | { readonly entity: "agent"; readonly id: AgentId }
  | { readonly entity: "gateway"; readonly id: GatewayId }
  | { readonly entity: "tunnel"; readonly id: TunnelId }
  | { readonly entity: "certificate"; readonly id: string }

/** That a row was changed, and what of that the row as it is now no longer shows. */
export type Touch = Row & {
  readonly revision: Revision
  /** For a tunnel: whose it was before and after. */
  readonly agents: ReadonlyArray<AgentId>
  /** For a tunnel: its domain before and after. What was read from the log does not have it. */
  readonly domains?: ReadonlyArray<string>
  /** For an agent or gateway: its own part of its own view has changed. */
  readonly own: boolean
  /** For an agent: its addresses have changed, which its tunnels have in the gateways' view. */
  readonly renumbered: boolean
}

export interface History {
  /** Every change after this revision is known. */
  readonly from: Revision
  readonly chunks: ReadonlyArray<ReadonlyArray<Touch>>
}

/** Appending copies one chunk and the list of them; the oldest chunk goes as a whole. */
const chunkSize = 256
const mostChunks = 64

/** How many changes are kept at least, once there were so many. */
export const capacity = chunkSize * (mostChunks - 1)

export const none = (from: Revision): History => ({ from, chunks: [] })

/** Touches in order of revision, the first of them the first after `from`. */
export const of = (from: Revision, touches: ReadonlyArray<Touch>): History => touches.reduce(append, none(from))

export function append(history: History, touch: Touch): History {
  const last = history.chunks.at(-1)
  if (last !== undefined && last.length < chunkSize) {
    return { from: history.from, chunks: history.chunks.with(history.chunks.length - 1, [...last, touch]) }
  }
  const chunks = [...history.chunks, [touch]]
  if (chunks.length <= mostChunks) return { from: history.from, chunks }
  const [oldest, ...kept] = chunks
  return { from: oldest?.at(-1)?.revision ?? history.from, chunks: kept }
}

/**
 * What the change of this revision touched, if that is known. A client comes and goes with its keys, of which there are two
 * at most and whose changes touch nothing that is seen: theirs are taken for its own.
 */
export const at = (history: History, revision: Revision): Touch | undefined =>
  history.chunks.findLast((chunk) => (chunk[0]?.revision ?? 0) <= revision)
    ?.findLast((touch) => touch.revision <= revision && touch.revision >= revision - 2)

/** Whether this client can see anything of what was touched; its own row is its own business. */
export const concerns = (touch: Touch, client: ClientRef): boolean => {
  if (touch.entity === client.type) return touch.id === client.id
  if (client.type === "gateway") return true
  return touch.entity === "gateway" || touch.entity === "tunnel" && touch.agents.includes(client.id)
}

/**
 * One touch for each row that was changed after this revision and concerns the client, in order of revision: the latest that
 * does, with what the earlier ones told of where the row was before. Undefined when changes after this revision are
 * forgotten. A touch that does not concern the client must not move a row back: were the client cut off before it, it would
 * never hear of the ones that did.
 */
export const since = (
  history: History,
  revision: Revision,
  client: ClientRef
): ReadonlyArray<Touch> | undefined => {
  if (revision < history.from) return undefined
  const touches = new Map<string, Touch>()
  for (const chunk of history.chunks) {
    if ((chunk.at(-1)?.revision ?? 0) <= revision) continue
    for (const touch of chunk) {
      if (touch.revision <= revision || !concerns(touch, client)) continue
      const name = `${touch.entity}:${touch.id}`
      const earlier = touches.get(name)
      touches.set(name, earlier === undefined ? touch : merged(earlier, touch))
    }
  }
  return [...touches.values()].toSorted((one, other) => one.revision - other.revision)
}

function merged(earlier: Touch, later: Touch): Touch {
  return {
    ...later,
    agents: [...new Set([...earlier.agents, ...later.agents])],
    own: earlier.own || later.own,
    renumbered: earlier.renumbered || later.renumbered
  }
}
