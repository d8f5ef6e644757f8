/** SQL conditions of the filters of lists. */
import type { AgentId } from "#schema/ids.ts"
import type { TunnelProtocol } from "#schema/sharedFields.ts"
import type { SqlClient, Statement } from "effect/sql"
import { onlineCondition, reportedCondition } from "./presenceColumns.ts"

/** Filters of agents, gateways and connected clients. An absent filter accepts every row. */
export interface ClientFilter {
  /** The whole name, in any case. */
  readonly name?: string
  readonly status?: "online" | "offline"
  /** A part of the name, the beginning of the id, or a whole address. */
  readonly q?: string
}

export interface TunnelFilter {
  readonly domain?: string
  /** The whole name, in any case. */
  readonly name?: string
  readonly protocol?: TunnelProtocol
  readonly agent?: AgentId
  /** The reported status. */
  readonly status?: string
  /** A part of the domain, of the name or of the target, or the beginning of the id. */
  readonly q?: string
}

export interface CertificateFilter {
  readonly domain?: string
  /** A part of the domain. */
  readonly q?: string
}

type Conditions = ReadonlyArray<Statement.Fragment>

/** Searches as text. The pattern of `like` would give `%` and `_` of the input a meaning. */
const contains = (sql: SqlClient.SqlClient, column: string, q: string) =>
  sql`position(control_name_key(${q}) in control_name_key(${sql(column)})) > 0`

const startsWith = (sql: SqlClient.SqlClient, column: string, q: string) => sql`starts_with(${sql(column)}, ${q})`

const optional = <A>(value: A | undefined, condition: (value: A) => Statement.Fragment): Conditions =>
  value === undefined ? [] : [condition(value)]

/** `address` is the column of the client's address. */
export const clientConditions =
  (sql: SqlClient.SqlClient, address: "virtual_ip" | "public_ip" | "session_address") =>
  ({ name, q, status }: ClientFilter): Conditions => [
    ...optional(name, (name) => sql`control_name_key(name) = control_name_key(${name})`),
    ...optional(status, (status) => sql`(${sql.literal(onlineCondition)}) = ${status === "online"}`),
    ...optional(q, (q) => sql.or([contains(sql, "name", q), startsWith(sql, "id", q), sql`${sql(address)} = ${q}`]))
  ]

export const tunnelConditions =
  (sql: SqlClient.SqlClient) => ({ agent, domain, name, protocol, q, status }: TunnelFilter): Conditions => [
    ...optional(domain, (domain) => sql`domain = ${domain}`),
    ...optional(name, (name) => sql`control_name_key(name) = control_name_key(${name})`),
    ...optional(protocol, (protocol) => sql`protocol = ${protocol}`),
    ...optional(agent, (agent) => sql`agent_id = ${agent}`),
    ...optional(status, (status) => sql`reported_status = ${status} and ${sql.literal(reportedCondition)}`),
    ...optional(q, (q) =>
      sql.or([
        contains(sql, "domain", q),
        contains(sql, "name", q),
        contains(sql, "target", q),
        startsWith(sql, "id", q)
      ]))
  ]

export const certificateConditions = (sql: SqlClient.SqlClient) => ({ domain, q }: CertificateFilter): Conditions => [
  ...optional(domain, (domain) => sql`domain = ${domain}`),
  ...optional(q, (q) => contains(sql, "domain", q))
]
