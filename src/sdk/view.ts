/** The view a client holds: configs and deltas applied by the revision rule. Pure. */
import type { AgentConfigV1, GatewayConfigV1 } from "#schema/views.ts"
import type { Config, Delta, Table } from "./messages.ts"

/** A point in the change history. A revision means nothing without its timeline. */
export interface Position {
  readonly timeline: string
  readonly revision: number
}

type Rows<Row extends { readonly id: string }> = ReadonlyMap<string, Row>

/** Everything that an agent may know. */
export interface AgentView {
  readonly type: "agent"
  /** Largest packet inside the WireGuard tunnels, in bytes. */
  readonly mtu: number
  /** The agent itself. */
  readonly agent: AgentConfigV1["agent"]
  /** Gateways by id. */
  readonly gateways: Rows<AgentConfigV1["gateways"][number]>
  /** The agent's own tunnels by id. */
  readonly tunnels: Rows<AgentConfigV1["tunnels"][number]>
}

/** Everything that a gateway may know. */
export interface GatewayView {
  readonly type: "gateway"
  /** Largest packet inside the WireGuard tunnels, in bytes. */
  readonly mtu: number
  /** The gateway itself. */
  readonly gateway: GatewayConfigV1["gateway"]
  /** Agents by id. */
  readonly agents: Rows<GatewayConfigV1["agents"][number]>
  /** Tunnels by id. */
  readonly tunnels: Rows<GatewayConfigV1["tunnels"][number]>
  /** Certificates by domain. */
  readonly certificates: ReadonlyMap<string, GatewayConfigV1["certificates"][number]>
}

export type View = AgentView | GatewayView

/** A view and the position up to which it is complete. */
export interface Snapshot extends Position {
  readonly view: View
}

/** One row that differs from before: `put` means new or changed, `deleted` means gone. */
export interface RowChange {
  readonly table: Table
  /** The id of the row; the domain of a certificate. */
  readonly key: string
  readonly kind: "put" | "deleted"
}

/**
 * The difference from the last successful `apply`. `disk`: the view was read from the state file at the start. `config`: the
 * whole view was replaced, and `rows` is empty. `deltas`: only `rows` have changed, and each row is listed once.
 */
export interface Change {
  readonly source: "disk" | "config" | "deltas"
  readonly revision: number
  readonly rows: ReadonlyArray<RowChange>
}

export type DeltaOutcome =
  | { readonly _tag: "Changed"; readonly snapshot: Snapshot; readonly change: Change }
  /** The view already includes this revision. */
  | { readonly _tag: "Duplicate" }
  /** An earlier delta is missing. Only a config repairs the view. */
  | { readonly _tag: "Gap" }

/** The snapshot in a config. A config replaces everything, whatever its revision. */
export const snapshotOf = ({ data, revision, timeline }: Config): Snapshot => ({
  timeline,
  revision,
  view: viewOf(data)
})

/**
 * Applies one delta to a snapshot at revision r. `previous <= r < revision` changes the view, `revision <= r` is a duplicate,
 * everything else is a gap. A put of an existing row and a delete of an unknown row are valid.
 */
export const applyDelta = (snapshot: Snapshot, { key, previous, revision, row, table }: Delta): DeltaOutcome => {
  if (revision <= snapshot.revision) return { _tag: "Duplicate" }
  const before = rowsOf(snapshot.view, table)
  if (previous > snapshot.revision || before === undefined) return { _tag: "Gap" }
  const rows = new Map(before)
  if (row === undefined) rows.delete(key)
  else rows.set(key, row)
  return {
    _tag: "Changed",
    snapshot: { ...snapshot, revision, view: { ...snapshot.view, [table]: rows } },
    change: { source: "deltas", revision, rows: [{ table, key, kind: row === undefined ? "deleted" : "put" }] }
  }
}

/** Combines two consecutive changes into one change that leads from the first's start to the second's end. */
export const mergeChanges = (first: Change | undefined, second: Change): Change => {
  if (first === undefined || second.source !== "deltas") return second
  if (first.source !== "deltas") return { ...first, revision: second.revision }
  const rows = new Map([...first.rows, ...second.rows].map((row) => [`${row.table} ${row.key}`, row]))
  return { source: "deltas", revision: second.revision, rows: [...rows.values()] }
}

/** Converts a view to the data of a `config` message. */
export const toConfigData = (view: View): AgentConfigV1 | GatewayConfigV1 =>
  view.type === "agent"
    ? { mtu: view.mtu, agent: view.agent, gateways: [...view.gateways.values()], tunnels: [...view.tunnels.values()] }
    : {
      mtu: view.mtu,
      gateway: view.gateway,
      agents: [...view.agents.values()],
      tunnels: [...view.tunnels.values()],
      certificates: [...view.certificates.values()]
    }

/** The id of the client to which the view belongs. */
export const ownerId = (view: View): string => view.type === "agent" ? view.agent.id : view.gateway.id

function viewOf(data: Config["data"]): View {
  return "agent" in data
    ? { type: "agent", mtu: data.mtu, agent: data.agent, gateways: byId(data.gateways), tunnels: byId(data.tunnels) }
    : {
      type: "gateway",
      mtu: data.mtu,
      gateway: data.gateway,
      agents: byId(data.agents),
      tunnels: byId(data.tunnels),
      certificates: new Map(data.certificates.map((row) => [row.domain, row]))
    }
}

function byId<Row extends { readonly id: string }>(rows: ReadonlyArray<Row>): Rows<Row> {
  return new Map(rows.map((row) => [row.id, row]))
}

/** Returns undefined for a table that clients of this type do not have. */
function rowsOf(view: View, table: Table): ReadonlyMap<string, unknown> | undefined {
  const tables: Partial<Record<Table, ReadonlyMap<string, unknown>>> = view.type === "agent"
    ? { gateways: view.gateways, tunnels: view.tunnels }
    : { agents: view.agents, tunnels: view.tunnels, certificates: view.certificates }
  return tables[table]
}
