/** Node leases, takeover mailboxes and relayed events over the simulated database. */
import { SessionId } from "#schema/ids.ts"
import { EventStore } from "#store/EventStore.ts"
import { NodeStore } from "#store/NodeStore.ts"
import type { ExpiredSession } from "#store/presenceTypes.ts"
import { Duration, Effect, Layer } from "effect"
import type { Database } from "./SimulatedDatabase.ts"
import type { DatabaseLink } from "./DatabaseLink.ts"

/** Marks online clients offline when their node's lease has expired or their row was not touched for `limit`. */
export function sweep(database: Database, limit: Duration.Duration): ReadonlyArray<ExpiredSession> {
  const { nodes, presence, world } = database
  const expired = new Set([...nodes.keys()].filter((id) => !database.hasLease(id)))
  const swept: Array<ExpiredSession> = []
  for (const [name, row] of presence) {
    const isStale = expired.has(row.node) || row.lastSeenAt < world.now - Duration.toMillis(limit)
    if (row.status !== "online" || !isStale) continue
    presence.set(name, { ...row, status: "offline" })
    const { address, level, ref: { id, type }, session } = row
    if (session !== null) {
      const client = { clientType: type, clientId: id, session: SessionId.make(session), address, level }
      swept.push({ ...client, at: world.now, node: nodes.has(row.node) ? "n" : null })
    }
    database.checkSwept(row)
  }
  database.nodeEvents = database.nodeEvents.filter(({ at }) => at > world.now - minute)
  for (const id of expired) {
    const node = nodes.get(id)
    if (node === undefined) continue
    if (node.draining || node.until < world.now - hour) nodes.delete(id)
    else nodes.set(id, { ...node, epoch: node.epoch + 1 })
  }
  database.takeovers = database.takeovers.filter(({ node }) => nodes.has(node))
  if (swept.length > 0) world.count("presence swept")
  return swept
}

const minute = 60_000
const hour = 3_600_000

/** Events that nodes relay to each other. No operator follows events in a simulation, so `readChanges` returns none. */
export const eventStore = (link: DatabaseLink) => {
  const { database } = link
  return Layer.succeed(
    EventStore,
    EventStore.of({
      readChanges: () => Effect.succeed([]),
      appendBatch: (node, number, events) =>
        link.request("save events", () => {
          const exists = database.nodeEvents.some((batch) => batch.node === node && batch.number === number)
          if (!exists) database.nodeEvents.push({ node, number, at: database.world.now, events })
          return Effect.void
        }),
      readBatchNumbers: link.request(
        "count events",
        () => Effect.sync(() => new Map(database.nodeEvents.map(({ node, number }) => [node, number])))
      ),
      readNewBatches: (node, after) =>
        link.request("read events", () => {
          const batches = database.nodeEvents.filter((batch) =>
            batch.node !== node && batch.number > (after.get(batch.node) ?? 0)
          )
          if (batches.length > 0) database.world.count("events relayed to another node")
          return Effect.succeed({ batches: batches.map((batch) => ({ ...batch, name: "n" })), isComplete: true })
        })
    })
  )
}

/** Leases of the nodes, and the takeovers that each node collects. */
export const nodeStore = (link: DatabaseLink) => {
  const { database } = link
  const { nodes, world } = database
  return Layer.succeed(
    NodeStore,
    NodeStore.of({
      renew: ({ id }, lease) =>
        link.request("renew lease", () => {
          const node = nodes.get(id) ?? { until: 0, draining: false, epoch: world.now * 1_000 }
          if (node.draining) return Effect.succeed(undefined)
          nodes.set(id, { ...node, until: world.now + Duration.toMillis(lease) })
          const hasOtherNodes = [...nodes.keys()].some((other) => other !== id && database.hasLease(other))
          return Effect.succeed({ epoch: `${node.epoch}`, hasOtherNodes })
        }),
      cancelDrain: (id) =>
        link.request("reclaim", () => {
          const node = nodes.get(id)
          if (node !== undefined) nodes.set(id, { ...node, draining: false })
          return Effect.succeed(node?.draining === true)
        }),
      collectTakeovers: (id) =>
        link.request("collect", () => {
          const collected = database.takeovers.filter(({ node }) => node === id)
          database.takeovers = database.takeovers.filter(({ node }) => node !== id)
          if (collected.length > 0) world.count("takeover collected")
          return Effect.succeed(new Set(collected.map(({ session }) => SessionId.make(session))))
        }),
      startDrain: (id, timeout) =>
        link.request("hand over", () => {
          const node = nodes.get(id)
          const hasSuccessor = [...nodes].some(([other, { draining }]) =>
            other !== id && !draining && database.hasLease(other)
          )
          if (node === undefined || !hasSuccessor) return Effect.succeed(false)
          world.count("node drains")
          nodes.set(id, { ...node, draining: true, until: world.now + Duration.toMillis(timeout) })
          return Effect.succeed(true)
        }),
      release: (id) =>
        link.request("leave", () => {
          const node = nodes.get(id)
          const hasClients = [...database.presence.values()].some((row) => row.status === "online" && row.node === id)
          if (!hasClients) nodes.delete(id)
          else if (node !== undefined && !node.draining) nodes.set(id, { ...node, until: world.now })
          if ([...nodes].some(([other, { draining }]) => !draining && database.hasLease(other))) return Effect.void
          for (const [name, row] of database.presence) {
            if (nodes.has(row.node)) database.presence.set(name, { ...row, status: "offline" })
          }
          return Effect.void
        }),
      expireAll: Effect.die("the simulated nodes share an external database"),
      list: link.request("list nodes", () => Effect.succeed([]))
    })
  )
}
