/** The nodes' leases and mailboxes, and the sweep, over the simulated database. */
import { SessionId } from "#schema/ids.ts"
import { EventStore } from "#store/EventStore.ts"
import { NodeStore } from "#store/NodeStore.ts"
import type { Swept } from "#store/PresenceStore.ts"
import { Duration, Effect, Layer } from "effect"
import type { Database } from "./Database.ts"
import type { Link } from "./DatabaseLink.ts"

export function sweep(database: Database, limit: Duration.Duration): ReadonlyArray<Swept> {
  const { nodes, presence, world } = database
  const lapsed = new Set([...nodes.keys()].filter((id) => !database.isLive(id)))
  const swept: Array<Swept> = []
  for (const [name, row] of presence) {
    const isDead = lapsed.has(row.node) || row.lastSeenAt < world.now - Duration.toMillis(limit)
    if (row.status !== "online" || !isDead) continue
    presence.set(name, { ...row, status: "offline" })
    const { address, level, ref: { id, type }, session } = row
    if (session !== null) {
      const told = { clientType: type, clientId: id, session: SessionId.make(session), address, level }
      swept.push({ ...told, at: world.now, node: nodes.has(row.node) ? "n" : null })
    }
    database.noteSwept(row)
  }
  database.nodeEvents = database.nodeEvents.filter(({ at }) => at > world.now - minute)
  for (const id of lapsed) {
    const node = nodes.get(id)
    if (node === undefined) continue
    if (node.draining || node.until < world.now - hour) nodes.delete(id)
    else nodes.set(id, { ...node, mark: node.mark + 1 })
  }
  database.takeovers = database.takeovers.filter(({ node }) => nodes.has(node))
  if (swept.length > 0) world.count("presence swept")
  return swept
}

const minute = 60_000
const hour = 3_600_000

/** What the nodes tell each other. Nobody follows the events here, so no changes are read for that. */
export const eventStore = (link: Link) => {
  const { database } = link
  return Layer.succeed(
    EventStore,
    EventStore.of({
      changes: () => Effect.succeed([]),
      append: (node, number, events) =>
        link.request("tell events", () => {
          const isThere = database.nodeEvents.some((batch) => batch.node === node && batch.number === number)
          if (!isThere) database.nodeEvents.push({ node, number, at: database.world.now, events })
          return Effect.void
        }),
      numbers: link.request(
        "count events",
        () => Effect.sync(() => new Map(database.nodeEvents.map(({ node, number }) => [node, number])))
      ),
      newer: (node, after) =>
        link.request("hear events", () => {
          const batches = database.nodeEvents.filter((batch) =>
            batch.node !== node && batch.number > (after.get(batch.node) ?? 0)
          )
          if (batches.length > 0) database.world.count("events told to another node")
          return Effect.succeed({ batches: batches.map((batch) => ({ ...batch, name: "n" })), isAll: true })
        })
    })
  )
}

/** The nodes' leases and their mailboxes. */
export const nodeStore = (link: Link) => {
  const { database } = link
  const { nodes, world } = database
  return Layer.succeed(
    NodeStore,
    NodeStore.of({
      renew: ({ id }, lease) =>
        link.request("renew lease", () => {
          const node = nodes.get(id) ?? { until: 0, draining: false, mark: world.now * 1_000 }
          if (node.draining) return Effect.succeed(undefined)
          nodes.set(id, { ...node, until: world.now + Duration.toMillis(lease) })
          const hasOthers = [...nodes.keys()].some((other) => other !== id && database.isLive(other))
          return Effect.succeed({ mark: `${node.mark}`, hasOthers })
        }),
      reclaim: (id) =>
        link.request("reclaim", () => {
          const node = nodes.get(id)
          if (node !== undefined) nodes.set(id, { ...node, draining: false })
          return Effect.void
        }),
      collect: (id) =>
        link.request("collect", () => {
          const mine = database.takeovers.filter(({ node }) => node === id)
          database.takeovers = database.takeovers.filter(({ node }) => node !== id)
          if (mine.length > 0) world.count("takeover told")
          return Effect.succeed(new Set(mine.map(({ session }) => SessionId.make(session))))
        }),
      handOver: (id, patience) =>
        link.request("hand over", () => {
          const node = nodes.get(id)
          const there = [...nodes].some(([other, { draining }]) => other !== id && !draining && database.isLive(other))
          if (node === undefined || !there) return Effect.succeed(false)
          world.count("clients handed over")
          nodes.set(id, { ...node, draining: true, until: world.now + Duration.toMillis(patience) })
          return Effect.succeed(true)
        }),
      leave: (id) =>
        link.request("leave", () => {
          const node = nodes.get(id)
          const holds = [...database.presence.values()].some((row) => row.status === "online" && row.node === id)
          if (!holds) nodes.delete(id)
          else if (node !== undefined && !node.draining) nodes.set(id, { ...node, until: world.now })
          if ([...nodes].some(([other, { draining }]) => !draining && database.isLive(other))) return Effect.void
          for (const [name, row] of database.presence) {
            if (nodes.has(row.node)) database.presence.set(name, { ...row, status: "offline" })
          }
          return Effect.void
        }),
      list: link.request("list nodes", () => Effect.succeed([]))
    })
  )
}
