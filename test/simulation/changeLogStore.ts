/** Change log over the simulated database. */
import { httpTunnelFields } from "#support/tunnelFields.ts"
import * as History from "#network/History.ts"
import { zeroCounts } from "#network/lossDetection.ts"
import type { Change } from "#network/NetworkState.ts"
import { load } from "#network/RowLoader.ts"
import { AgentId, GatewayId, KeyId, Revision, Timeline, TunnelId } from "#schema/ids.ts"
import { mapRowKinds } from "#schema/rowKinds.ts"
import { ChangeLog, changePageSize } from "#store/ChangeLog.ts"
import { decodeHistory } from "#store/snapshotRows.ts"
import { Effect, Layer, Redacted } from "effect"
import type { Database, LogEntry } from "./SimulatedDatabase.ts"
import type { DatabaseLink } from "./DatabaseLink.ts"
import type { RowChange } from "./databaseTables.ts"

/** LISTEN is restarted after this many milliseconds without a notification or probe. */
const maxSilence = 12_000

export const changeLog = (link: DatabaseLink) => {
  const { database } = link
  return Layer.succeed(
    ChangeLog,
    ChangeLog.of({
      readSnapshot: link.request("snapshot", () => {
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
        const history = decodeHistory(
          touches.map(asTouch),
          oldest === undefined ? null : Revision.make(oldest),
          revision
        )
        return Effect.succeed({
          state: load(Timeline.make(database.timeline), revision, changes, history),
          tag: database.tagAt(revision),
          accepted: undefined,
          unreadable: []
        })
      }),
      reading: Effect.succeed(undefined),
      readAfter: (revision) =>
        link.request("read log", () => {
          const newer = database.log.filter((entry) => entry.revision > revision).slice(0, changePageSize)
          const oldest = database.log[0]?.revision
          return Effect.succeed({
            timeline: Timeline.make(database.timeline),
            newest: Revision.make(database.revision),
            oldest: oldest === undefined ? undefined : Revision.make(oldest),
            changes: newer.map((entry) => asChange(entry)),
            upTo: Revision.make(newer.at(-1)?.revision ?? revision),
            tag: newer.at(-1)?.tag ?? database.tagAt(revision),
            tagBefore: database.tagAt(revision),
            accepted: undefined,
            unreadable: []
          })
        }),
      hasWaitingWrites: Effect.succeed(false),
      readTag: (revision) => link.request("read tag", () => Effect.sync(() => database.tagAt(revision))),
      // The loss guard needs a larger network than a simulated one; test/server/cluster/ tests it on PostgreSQL.
      readDeletedIds: () => link.request("count deletions", () => Effect.succeed(mapRowKinds(() => new Set<string>()))),
      countTurnover: () =>
        link.request("count turnover", () => Effect.succeed({ created: zeroCounts, deleted: zeroCounts })),
      acceptLoss: () => link.request("accept", () => Effect.succeed(false)),
      startTimeline: (lost) => link.request("begin timeline", () => Effect.sync(() => database.beginTimeline(lost))),
      compact: link.request("compact", () => Effect.succeed(0)),
      listen: (wake) => link.listen(wake, maxSilence),
      sendProbe: link.request("probe", () => Effect.sync(() => database.notify("probe")))
    })
  )
}

function asTouch({ entity, id, oldAgentId, own, renumbered, revision, row }: LogEntry) {
  const agents = [oldAgentId, row !== undefined && "agentId" in row ? row.agentId : undefined]
  return { revision, entity, id, own, renumbered, agents: agents.filter((agent) => agent !== undefined) }
}

const entities = ["agent", "gateway", "tunnel", "certificate", "key"] as const

const changesByEntry = new WeakMap<LogEntry, Change>()

function asChange(entry: LogEntry): Change {
  const change = changesByEntry.get(entry) ?? toChange(entry, Revision.make(entry.revision))
  changesByEntry.set(entry, change)
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
      return {
        _tag: "TunnelPut",
        revision,
        tunnel: { id: TunnelId.make(id), agentId: AgentId.make(agentId), ...httpTunnelFields, ...rest }
      }
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
