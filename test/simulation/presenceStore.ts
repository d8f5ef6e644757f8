/** Presence store over the simulated database: claims, touches and releases of sessions. */
import { type ClientRef, formatClientRef, type SessionId } from "#schema/ids.ts"
import { PresenceStore } from "#store/PresenceStore.ts"
import { type Claim, type ClaimResult, LeaseLapsed, type SessionTouch } from "#store/presenceTypes.ts"
import { Effect, Layer, Redacted } from "effect"
import type { Database } from "./SimulatedDatabase.ts"
import type { DatabaseLink } from "./DatabaseLink.ts"
import { sweep } from "./nodeStores.ts"

export const presenceStore = (link: DatabaseLink) => {
  const { database } = link
  const { presence, world } = database
  const rowHeldBy = ({ session, ...ref }: ClientRef & { readonly session: SessionId }) => {
    const row = presence.get(formatClientRef(ref))
    return row?.session === session ? row : undefined
  }

  const withLease = <A, E>(node: string, work: () => Effect.Effect<A, E>): Effect.Effect<A, E | LeaseLapsed> =>
    database.hasLease(node) ? work() : Effect.fail(new LeaseLapsed())

  return Layer.succeed(
    PresenceStore,
    PresenceStore.of({
      claim: (node, claims) =>
        link.request("claim", () => withLease(node, () => Effect.succeed(claim(database, node, claims)))),
      touch: (node, seen) =>
        link.request("touch", () =>
          withLease(node, () => {
            const backOnline = new Set<SessionId>()
            const held = seen.filter((item: SessionTouch) => {
              const row = rowHeldBy(item)
              if (row === undefined) return false
              if (row.status === "offline") backOnline.add(item.session)
              const { applied = null, nack = null, sent } = item
              const lastSeenAt = world.now - Math.round(item.ageMillis)
              presence.set(formatClientRef(item), { ...row, status: "online", lastSeenAt, sent, applied, nack })
              return true
            })
            return Effect.succeed({ at: world.now, held: new Set(held.map(({ session }) => session)), backOnline })
          })),
      classifyLost: (lost) =>
        link.request("fates", () => {
          const causes = { takenOver: new Set<SessionId>(), forgotten: new Set<SessionId>() }
          for (const { ageMillis, session, ...ref } of lost) {
            const row = presence.get(formatClientRef(ref))
            if (!database.exists(ref) || row?.session === session) continue
            const isTaken = row !== undefined && row.session !== null &&
              row.since > world.now - Math.round(ageMillis)
            causes[isTaken ? "takenOver" : "forgotten"].add(session)
          }
          return Effect.succeed(causes)
        }),
      release: (held) =>
        link.request("release", () => {
          const [takenOver, unclaimed] = [new Set<SessionId>(), new Set<SessionId>()]
          for (const item of held) {
            const row = rowHeldBy(item)
            if (row === undefined) {
              const isTaken = presence.get(formatClientRef(item))?.session != null
              ;(isTaken ? takenOver : unclaimed).add(item.session)
              continue
            }
            presence.set(formatClientRef(item), { ...row, status: "offline", session: null, nack: item.nack ?? null })
          }
          return Effect.succeed({ at: world.now, locked: new Set<SessionId>(), takenOver, unclaimed })
        }),
      expireSessions: (limit) => link.request("sweep", () => Effect.succeed(sweep(database, limit))),
      findOnline: () => link.request("elsewhere", () => Effect.succeed([])),
      listConnected: () => link.request("connected", () => Effect.succeed({ items: [], nextCursor: null }))
    })
  )
}

function claim(database: Database, node: string, claims: ReadonlyArray<Claim>): ClaimResult {
  const { world } = database
  const [deleted, keyTaken] = [new Set<string>(), new Set<string>()]
  for (const wanted of claims) database.claims.push({ name: formatClientRef(wanted), at: world.now })
  database.transact((tx) => {
    for (
      const { address, keyId, level, publicIp, session, version = null, wireguard, ...ref } of newestOfEach(claims)
    ) {
      const name = formatClientRef(ref)
      if (tx.tables.key.has(keyId)) database.keyUsed.set(keyId, world.now)
      if (!tx.tables[ref.type].has(ref.id)) {
        deleted.add(name)
        continue
      }
      const rows = [...tx.tables.agent.values(), ...tx.tables.gateway.values()]
      if (rows.some(({ id, publicKey }) => id !== ref.id && publicKey === wireguard?.publicKey)) {
        keyTaken.add(name)
        continue
      }
      const keys = wireguard === undefined ? {} : {
        publicKey: wireguard.publicKey,
        privateKey: wireguard.privateKey === null ? null : Redacted.value(wireguard.privateKey)
      }
      const agent = ref.type === "agent" ? tx.tables.agent.get(ref.id) : undefined
      if (agent !== undefined) tx.put("agent", { ...agent, ...keys })
      const gateway = ref.type === "gateway" ? tx.tables.gateway.get(ref.id) : undefined
      if (gateway !== undefined) {
        tx.put("gateway", { ...gateway, ...keys, publicIp: publicIp === null ? gateway.publicIp : publicIp })
      }
      const { now } = world
      const before = database.presence.get(name)
      if (before?.session != null) {
        world.count("takeover in the database")
        if (before.node !== node && database.nodes.has(before.node)) {
          database.takeovers.push({ node: before.node, session: before.session })
        }
      }
      const reported = { version, sent: null, applied: null, nack: null }
      database.presence.set(name, {
        ref,
        status: "online",
        lastSeenAt: now,
        session,
        node,
        since: now,
        address,
        level,
        ...reported
      })
    }
  })
  return { at: world.now, deleted, keyTaken, locked: new Set() }
}

/** The newest claim of each client, in PostgreSQL's lock order: agents before gateways, each by id. */
function newestOfEach(claims: ReadonlyArray<Claim>): ReadonlyArray<Claim> {
  return [...new Map(claims.map((item) => [formatClientRef(item), item])).values()]
    .toSorted((a, b) => a.type === b.type ? (a.id < b.id ? -1 : 1) : a.type === "agent" ? -1 : 1)
}
