/** Presence and the log of changes, over the simulated database. */
import * as History from "#network/History.ts"
import { none } from "#network/lossDetection.ts"
import { type Change, load } from "#network/NetworkState.ts"
import {
  AgentId,
  type ClientRef,
  GatewayId,
  KeyId,
  nameOf,
  Revision,
  type SessionId,
  Timeline,
  TunnelId
} from "#schema/ids.ts"
import { ofEach } from "#schema/rowKinds.ts"
import { ChangeLog, pageSize } from "#store/ChangeLog.ts"
import { historyOf } from "#store/snapshotRows.ts"
import { type Claim, type Claimed, LeaseLapsed, PresenceStore, type Seen } from "#store/PresenceStore.ts"
import { Effect, Layer, Redacted } from "effect"
import type { Database, Logged } from "./Database.ts"
import type { Link } from "./DatabaseLink.ts"
import { sweep } from "./nodeStores.ts"
import type { RowChange } from "./databaseTables.ts"

export const presenceStore = (link: Link) => {
  const { database } = link
  const { presence, world } = database
  const holds = ({ session, ...ref }: ClientRef & { readonly session: SessionId }) => {
    const row = presence.get(nameOf(ref))
    return row?.session === session ? row : undefined
  }

  const leased = <A, E>(node: string, work: () => Effect.Effect<A, E>): Effect.Effect<A, E | LeaseLapsed> =>
    database.isLive(node) ? work() : Effect.fail(new LeaseLapsed())

  return Layer.succeed(
    PresenceStore,
    PresenceStore.of({
      claim: (node, claims) =>
        link.request("claim", () => leased(node, () => Effect.succeed(claim(database, node, claims)))),
      touch: (node, seen) =>
        link.request("touch", () =>
          leased(node, () => {
            const again = new Set<SessionId>()
            const held = seen.filter((item: Seen) => {
              const row = holds(item)
              if (row === undefined) return false
              if (row.status === "offline") again.add(item.session)
              const { applied = null, nack = null, sent } = item
              const lastSeenAt = world.now - Math.round(item.ageMillis)
              presence.set(nameOf(item), { ...row, status: "online", lastSeenAt, sent, applied, nack })
              return true
            })
            return Effect.succeed({ at: world.now, held: new Set(held.map(({ session }) => session)), again })
          })),
      fatesOf: (lost) =>
        link.request("fates", () => {
          const fates = { taken: new Set<SessionId>(), undone: new Set<SessionId>() }
          for (const { ageMillis, session, ...ref } of lost) {
            const row = presence.get(nameOf(ref))
            if (!database.exists(ref) || row?.session === session) continue
            const isTaken = row !== undefined && row.session !== null &&
              row.since > world.now - Math.round(ageMillis)
            fates[isTaken ? "taken" : "undone"].add(session)
          }
          return Effect.succeed(fates)
        }),
      release: (held) =>
        link.request("release", () => {
          const [taken, gone] = [new Set<SessionId>(), new Set<SessionId>()]
          for (const item of held) {
            const row = holds(item)
            if (row === undefined) {
              const isTaken = presence.get(nameOf(item))?.session != null
              ;(isTaken ? taken : gone).add(item.session)
              continue
            }
            presence.set(nameOf(item), { ...row, status: "offline", session: null, nack: item.nack ?? null })
          }
          return Effect.succeed({ at: world.now, busy: new Set<SessionId>(), taken, gone })
        }),
      sweep: (limit) => link.request("sweep", () => Effect.succeed(sweep(database, limit))),
      elsewhere: () => link.request("elsewhere", () => Effect.succeed([])),
      connected: () => link.request("connected", () => Effect.succeed({ items: [], nextCursor: null }))
    })
  )
}

function claim(database: Database, node: string, claims: ReadonlyArray<Claim>): Claimed {
  const { world } = database
  const gone = new Set<string>()
  for (const wanted of claims) database.claims.push({ name: nameOf(wanted), at: world.now })
  database.transact((tx) => {
    for (
      const { address, keyId, level, publicIp, session, version = null, wireguard, ...ref } of newestOfEach(claims)
    ) {
      const name = nameOf(ref)
      if (tx.tables.key.has(keyId)) database.keyUsed.set(keyId, world.now)
      if (!tx.tables[ref.type].has(ref.id)) {
        gone.add(name)
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
      const told = { version, sent: null, applied: null, nack: null }
      database.presence.set(name, {
        ref,
        status: "online",
        lastSeenAt: now,
        session,
        node,
        since: now,
        address,
        level,
        ...told
      })
    }
  })
  return { at: world.now, gone, busy: new Set() }
}

/** The order of the database's locks: the agents before the gateways, each by id. */
function newestOfEach(claims: ReadonlyArray<Claim>): ReadonlyArray<Claim> {
  return [...new Map(claims.map((item) => [nameOf(item), item])).values()]
    .toSorted((a, b) => a.type === b.type ? (a.id < b.id ? -1 : 1) : a.type === "agent" ? -1 : 1)
}

/** As long as the log's readers wait to hear something. */
const longestSilence = 12_000

export const changeLog = (link: Link) => {
  const { database } = link
  return Layer.succeed(
    ChangeLog,
    ChangeLog.of({
      snapshot: link.request("snapshot", () => {
        const { tables } = database
        const rows = [tables.agent, tables.gateway, tables.tunnel, tables.certificate, tables.key]
        const changes = rows.flatMap((table, index) =>
          [...table.values()].map((row) =>
            rowChange(database, { entity: entities[index], id: row.id, row } as RowChange)
          )
        )
        const revision = Revision.make(database.revision)
        const oldest = database.log[0]?.revision
        const touches = database.log.filter(({ entity }) => entity !== "key").toReversed().slice(0, History.capacity)
        const history = historyOf(touches.map(asTouch), oldest === undefined ? null : Revision.make(oldest), revision)
        return Effect.succeed({
          state: load(Timeline.make(database.timeline), revision, changes, history),
          tag: database.tagAt(revision),
          accepted: undefined,
          leftOut: []
        })
      }),
      after: (revision) =>
        link.request("read log", () => {
          const newer = database.log.filter((logged) => logged.revision > revision).slice(0, pageSize)
          const oldest = database.log[0]?.revision
          return Effect.succeed({
            timeline: Timeline.make(database.timeline),
            newest: Revision.make(database.revision),
            oldest: oldest === undefined ? undefined : Revision.make(oldest),
            changes: newer.map((logged) => asChange(logged)),
            upTo: Revision.make(newer.at(-1)?.revision ?? revision),
            tag: newer.at(-1)?.tag ?? database.tagAt(revision),
            tagBefore: database.tagAt(revision),
            accepted: undefined,
            leftOut: []
          })
        }),
      tagAt: (revision) => link.request("read tag", () => Effect.sync(() => database.tagAt(revision))),
      // No simulated network is large enough for a loss that is held back: test/server/cluster/held.test.ts has those.
      deletedSince: () => link.request("count deletions", () => Effect.succeed(ofEach(() => new Set<string>()))),
      turnover: () => link.request("count turnover", () => Effect.succeed({ created: none, deleted: none })),
      accept: () => link.request("accept", () => Effect.succeed(false)),
      beginTimeline: (lost) => link.request("begin timeline", () => Effect.sync(() => database.beginTimeline(lost))),
      compact: link.request("compact", () => Effect.succeed(0)),
      listen: (wake) => link.listen(wake, longestSilence),
      probe: link.request("probe", () => Effect.sync(() => database.notify("probe")))
    })
  )
}

function asTouch({ entity, id, oldAgentId, own, renumbered, revision, row }: Logged) {
  const agents = [oldAgentId, row !== undefined && "agentId" in row ? row.agentId : undefined]
  return { revision, entity, id, own, renumbered, agents: agents.filter((agent) => agent !== undefined) }
}

const entities = ["agent", "gateway", "tunnel", "certificate", "key"] as const

const known = new WeakMap<Logged, Change>()

function asChange(logged: Logged): Change {
  const change = known.get(logged) ?? toChange(logged, Revision.make(logged.revision))
  known.set(logged, change)
  return change
}

const rowChange = (database: Database, change: RowChange): Change => toChange(change, Revision.make(database.revision))

function secret(privateKey: string | null): Redacted.Redacted | null {
  return privateKey === null ? null : Redacted.make(privateKey)
}

function toChange(change: RowChange, revision: Revision): Change {
  switch (change.entity) {
    case "agent": {
      if (change.row === undefined) return { _tag: "AgentRemoved", revision, id: AgentId.make(change.id) }
      const { id, name, privateKey, publicKey, subnet, virtualIp } = change.row
      const keys = { wireguardPublicKey: publicKey, wireguardPrivateKey: secret(privateKey) }
      return { _tag: "AgentPut", revision, agent: { id: AgentId.make(id), name, virtualIp, subnet, ...keys } }
    }
    case "gateway": {
      if (change.row === undefined) return { _tag: "GatewayRemoved", revision, id: GatewayId.make(change.id) }
      const { id, privateKey, publicKey, serves: scope, ...rest } = change.row
      const keys = { wireguardPublicKey: publicKey, wireguardPrivateKey: secret(privateKey) }
      const serves = scope === null
        ? null
        : { agents: new Set(scope.agents.map((agent) => AgentId.make(agent))), domains: new Set(scope.domains) }
      return { _tag: "GatewayPut", revision, gateway: { id: GatewayId.make(id), ...rest, serves, ...keys } }
    }
    case "tunnel": {
      if (change.row === undefined) return { _tag: "TunnelRemoved", revision, id: TunnelId.make(change.id) }
      const { agentId, id, ...rest } = change.row
      return { _tag: "TunnelPut", revision, tunnel: { id: TunnelId.make(id), agentId: AgentId.make(agentId), ...rest } }
    }
    case "certificate": {
      if (change.row === undefined) return { _tag: "CertificateRemoved", revision, domain: change.id }
      const { certificate, expiresAt, id: domain, privateKey } = change.row
      return {
        _tag: "CertificatePut",
        revision,
        certificate: { domain, certificate, privateKey: Redacted.make(privateKey), expiresAt }
      }
    }
    case "key": {
      if (change.row === undefined) return { _tag: "KeyRemoved", revision, id: KeyId.make(change.id) }
      const { hash, id, owner } = change.row
      return { _tag: "KeyPut", revision, key: { id: KeyId.make(id), hash, owner } }
    }
  }
}
