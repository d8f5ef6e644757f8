/** Rows that are there and cannot be read: where an older version of one is known, that stays. Pure. */
import { AgentId, GatewayId, KeyId, type Revision, TunnelId } from "#schema/ids.ts"
import { HashMap, Option } from "effect"
import { type Change, type NetworkState, putRow } from "./NetworkState.ts"
import { changedRow } from "./changedRow.ts"
import * as Table from "./BucketMap.ts"

/** `entity` is as the log names it; nothing is known of one that it does not name. */
export interface RowName {
  readonly entity: string
  readonly id: string
}

/** Who is still left out after these changes: a row that was deleted, or can be read again, is not. */
export const stillLeftOut = <Row extends RowName>(
  before: ReadonlyArray<Row>,
  changes: ReadonlyArray<Change>,
  more: ReadonlyArray<Row>
): ReadonlyArray<Row> => {
  if (before.length === 0) return more
  const mended = new Set([...changes.map(nameOf), ...more].map(textOf))
  return [...before.filter((row) => !mended.has(textOf(row))), ...more]
}

/** What was read anew, with the last known version of each row that could not be. */
export const keepKnown = (before: NetworkState, read: NetworkState, leftOut: ReadonlyArray<RowName>): NetworkState =>
  leftOut.reduce((state, name) => {
    const known = lastKnown(before, name, read.revision)
    return known === undefined ? state : putRow(state, known)
  }, read)

function lastKnown(state: NetworkState, { entity, id }: RowName, revision: Revision): Change | undefined {
  switch (entity) {
    case "agent":
      return found(Table.get(state.agents, AgentId.make(id)), (agent) => ({ _tag: "AgentPut", revision, agent }))
    case "gateway":
      return found(
        HashMap.get(state.gateways, GatewayId.make(id)),
        (gateway) => ({ _tag: "GatewayPut", revision, gateway })
      )
    case "tunnel":
      return found(Table.get(state.tunnels, TunnelId.make(id)), (tunnel) => ({ _tag: "TunnelPut", revision, tunnel }))
    case "certificate":
      return found(
        Table.get(state.certificates, id),
        (certificate) => ({ _tag: "CertificatePut", revision, certificate })
      )
    case "key":
      return found(HashMap.get(state.keys, KeyId.make(id)), (key) => ({ _tag: "KeyPut", revision, key }))
    default:
      return undefined
  }
}

function found<Row>(row: Option.Option<Row>, put: (row: Row) => Change): Change | undefined {
  return Option.getOrUndefined(Option.map(row, put))
}

const textOf = ({ entity, id }: RowName): string => `${entity}:${id}`

function nameOf(change: Change): RowName {
  const { entityId, entityType } = changedRow(change)
  return { entity: entityType, id: entityId }
}
