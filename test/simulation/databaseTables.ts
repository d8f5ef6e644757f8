/** Immutable tables of the simulated database; the checks compare clients with older versions of them. */
import type { ClientRef } from "#schema/ids.ts"

export interface AgentRow {
  readonly id: string
  readonly name: string
  readonly virtualIp: string
  readonly subnet: string
  readonly subnetIndex: number
  readonly publicKey: string
  /** Null when the client keeps its private key to itself. */
  readonly privateKey: string | null
}

export interface GatewayRow {
  readonly id: string
  readonly name: string
  readonly publicIp: string | null
  readonly listenPort: number
  readonly slot: number
  readonly serves: { readonly agents: ReadonlyArray<string>; readonly domains: ReadonlyArray<string> } | null
  readonly publicKey: string
  /** Null when the client keeps its private key to itself. */
  readonly privateKey: string | null
}

export interface TunnelRow {
  readonly id: string
  readonly agentId: string
  readonly domain: string
  readonly target: string
  readonly enabled: boolean
  /** `http` if absent. Both protocols need a domain; test/server/ tests tcp and udp on PostgreSQL. */
  readonly protocol?: "http" | "tls"
  /** Port at the agent. The transaction gives it. */
  readonly port?: number
}

export interface CertificateRow {
  readonly id: string
  readonly certificate: string
  readonly privateKey: string
  readonly expiresAt: string
  /** Gateway that stored it, or `operator`; absent for SQL. */
  readonly source?: string
  /** Different for each write: PostgreSQL stores a newly encrypted private key, so that rewriting a row changes it. */
  readonly written: number
}

export interface KeyRow {
  readonly id: string
  readonly owner: ClientRef
  readonly hash: string
}

export interface Rows {
  readonly agent: AgentRow
  readonly gateway: GatewayRow
  readonly tunnel: TunnelRow
  readonly certificate: CertificateRow
  readonly key: KeyRow
}

export type Entity = keyof Rows
export type Table<E extends Entity> = ReadonlyMap<string, Rows[E]>
export type Tables = { readonly [E in Entity]: Table<E> }

export const emptyTables: Tables = {
  agent: new Map(),
  gateway: new Map(),
  tunnel: new Map(),
  certificate: new Map(),
  key: new Map()
}

/** A row after a change; undefined when it was removed. */
export type RowChange = {
  readonly [E in Entity]: { readonly entity: E; readonly id: string; readonly row: Rows[E] | undefined }
}[Entity]

export const applyChange = (tables: Tables, change: RowChange): Tables => {
  switch (change.entity) {
    case "agent":
      return { ...tables, agent: changed(tables.agent, change.id, change.row) }
    case "gateway":
      return { ...tables, gateway: changed(tables.gateway, change.id, change.row) }
    case "tunnel":
      return { ...tables, tunnel: changed(tables.tunnel, change.id, change.row) }
    case "certificate":
      return { ...tables, certificate: changed(tables.certificate, change.id, change.row) }
    case "key":
      return { ...tables, key: changed(tables.key, change.id, change.row) }
  }
}

/** Whether two rows have equal fields. */
export const isSameRow = (a: object | undefined, b: object | undefined): boolean =>
  a === b || a !== undefined && b !== undefined && JSON.stringify(a) === JSON.stringify(b)

function changed<Row>(table: ReadonlyMap<string, Row>, id: string, row: Row | undefined): ReadonlyMap<string, Row> {
  const next = new Map(table)
  if (row === undefined) next.delete(id)
  else next.set(id, row)
  return next
}
