/** What a client knows and up to where: configs and steps become views by the rule of revisions. Pure. */
import type { AgentConfigV1, GatewayConfigV1 } from "#schema/views.ts"
import type { Config, Step, Table } from "./messages.ts"

/** A place in a history. A revision means nothing without its timeline. */
export interface Position {
  readonly timeline: string
  readonly revision: number
}

type Rows<Row extends { readonly id: string }> = ReadonlyMap<string, Row>

/** All that an agent may know. */
export interface AgentView {
  readonly type: "agent"
  /** The agent itself. */
  readonly agent: AgentConfigV1["agent"]
  /** By id. */
  readonly gateways: Rows<AgentConfigV1["gateways"][number]>
  /** Its own tunnels by id. */
  readonly tunnels: Rows<AgentConfigV1["tunnels"][number]>
}

/** All that a gateway may know. */
export interface GatewayView {
  readonly type: "gateway"
  /** The gateway itself. */
  readonly gateway: GatewayConfigV1["gateway"]
  /** By id. */
  readonly agents: Rows<GatewayConfigV1["agents"][number]>
  /** By id. */
  readonly tunnels: Rows<GatewayConfigV1["tunnels"][number]>
  /** By domain. */
  readonly certificates: ReadonlyMap<string, GatewayConfigV1["certificates"][number]>
}

export type View = AgentView | GatewayView

/** A view and its place. */
export interface Held extends Position {
  readonly view: View
}

/** One row that is not as it was: `put` is new or changed, `deleted` is gone. */
export interface Changed {
  readonly table: Table
  /** The id of the row; of a certificate its domain. */
  readonly key: string
  readonly kind: "put" | "deleted"
}

/**
 * Why the view is another than at the last successful `apply`: `disk`: it is the stored one, read at the start; `config`: it
 * came as a whole, and `rows` is empty; `steps`: only these rows have changed, each named once.
 */
export interface Change {
  readonly from: "disk" | "config" | "steps"
  readonly revision: number
  readonly rows: ReadonlyArray<Changed>
}

export type Followed =
  | { readonly _tag: "Changed"; readonly held: Held; readonly change: Change }
  /** Nothing new: the revision is one that the view already has. */
  | { readonly _tag: "Known" }
  /** Something before it has been missed: only a config helps. */
  | { readonly _tag: "Gap" }

/** A config replaces everything, whatever its revision. */
export const fromConfig = ({ data, revision, timeline }: Config): Held => ({ timeline, revision, view: viewOf(data) })

/**
 * `previous <= r < revision`: applied. `revision <= r`: known. Else a gap. A put of a row that is there and a delete of one
 * that is not are right.
 */
export const follow = (held: Held, { key, previous, revision, row, table }: Step): Followed => {
  if (revision <= held.revision) return { _tag: "Known" }
  const before = rowsOf(held.view, table)
  if (previous > held.revision || before === undefined) return { _tag: "Gap" }
  const rows = new Map(before)
  if (row === undefined) rows.delete(key)
  else rows.set(key, row)
  return {
    _tag: "Changed",
    held: { ...held, revision, view: { ...held.view, [table]: rows } },
    change: { from: "steps", revision, rows: [{ table, key, kind: row === undefined ? "deleted" : "put" }] }
  }
}

/** Two changes, one after the other, as one: whoever takes it has both behind him. */
export const merge = (first: Change | undefined, second: Change): Change => {
  if (first === undefined || second.from !== "steps") return second
  if (first.from !== "steps") return { ...first, revision: second.revision }
  const rows = new Map([...first.rows, ...second.rows].map((row) => [`${row.table} ${row.key}`, row]))
  return { from: "steps", revision: second.revision, rows: [...rows.values()] }
}

/** The view in the form in which Control sends it: the data of a `config`. */
export const toConfigData = (view: View): AgentConfigV1 | GatewayConfigV1 =>
  view.type === "agent"
    ? { agent: view.agent, gateways: [...view.gateways.values()], tunnels: [...view.tunnels.values()] }
    : {
      gateway: view.gateway,
      agents: [...view.agents.values()],
      tunnels: [...view.tunnels.values()],
      certificates: [...view.certificates.values()]
    }

/** The id of the client whose view it is. */
export const ownerOf = (view: View): string => view.type === "agent" ? view.agent.id : view.gateway.id

function viewOf(data: Config["data"]): View {
  return "agent" in data
    ? { type: "agent", agent: data.agent, gateways: byId(data.gateways), tunnels: byId(data.tunnels) }
    : {
      type: "gateway",
      gateway: data.gateway,
      agents: byId(data.agents),
      tunnels: byId(data.tunnels),
      certificates: new Map(data.certificates.map((row) => [row.domain, row]))
    }
}

function byId<Row extends { readonly id: string }>(rows: ReadonlyArray<Row>): Rows<Row> {
  return new Map(rows.map((row) => [row.id, row]))
}

/** Undefined for a table that clients of this type do not have. */
function rowsOf(view: View, table: Table): ReadonlyMap<string, unknown> | undefined {
  const tables: Partial<Record<Table, ReadonlyMap<string, unknown>>> = view.type === "agent"
    ? { gateways: view.gateways, tunnels: view.tunnels }
    : { agents: view.agents, tunnels: view.tunnels, certificates: view.certificates }
  return tables[table]
}
