/** Unreadable rows, of which the last readable version stays in the network. Pure. */
import { AgentId, GatewayId, KeyId, type Revision, TunnelId } from "#schema/ids.ts"
import { HashMap, Option } from "effect"
import type { Change, NetworkState } from "./NetworkState.ts"
import { putRows } from "./RowLoader.ts"
import { changedRow } from "./changedRow.ts"
import * as BucketMap from "./BucketMap.ts"

/** `entity` is the name in the change log; a row of any other entity has no known version. */
export interface RowKey {
  readonly entity: string
  readonly id: string
}

/** The rows that are unreadable after these changes, without rows that were deleted or are readable again. */
export const stillUnreadable = <Row extends RowKey>(
  before: ReadonlyArray<Row>,
  changes: ReadonlyArray<Change>,
  found: ReadonlyArray<Row>
): ReadonlyArray<Row> => {
  if (before.length === 0) return found
  const replaced = new Set([...changes.map(keyOf), ...found].map(textOf))
  return [...before.filter((row) => !replaced.has(textOf(row))), ...found]
}

/** A snapshot, completed with the last known version of each unreadable row. */
export const keepLastKnown = (
  before: NetworkState,
  snapshot: NetworkState,
  unreadable: ReadonlyArray<RowKey>
): NetworkState =>
  unreadable.length === 0 ? snapshot : putRows(
    snapshot,
    unreadable.map((key) => lastKnown(before, key, snapshot.revision)).filter((row) => row !== undefined)
  )

function lastKnown(state: NetworkState, { entity, id }: RowKey, revision: Revision): Change | undefined {
  switch (entity) {
    case "agent":
      return putOf(BucketMap.get(state.agents, AgentId.make(id)), (agent) => ({ _tag: "AgentPut", revision, agent }))
    case "gateway":
      return putOf(
        HashMap.get(state.gateways, GatewayId.make(id)),
        (gateway) => ({ _tag: "GatewayPut", revision, gateway })
      )
    case "tunnel":
      return putOf(
        BucketMap.get(state.tunnels, TunnelId.make(id)),
        (tunnel) => ({ _tag: "TunnelPut", revision, tunnel })
      )
    case "certificate":
      return putOf(
        BucketMap.get(state.certificates, id),
        (certificate) => ({ _tag: "CertificatePut", revision, certificate })
      )
    case "key":
      return putOf(HashMap.get(state.keys, KeyId.make(id)), (key) => ({ _tag: "KeyPut", revision, key }))
    default:
      return undefined
  }
}

function putOf<Row>(row: Option.Option<Row>, put: (row: Row) => Change): Change | undefined {
  return Option.getOrUndefined(Option.map(row, put))
}

const textOf = ({ entity, id }: RowKey): string => `${entity}:${id}`

function keyOf(change: Change): RowKey {
  const { entityId, entityType } = changedRow(change)
  return { entity: entityType, id: entityId }
}
