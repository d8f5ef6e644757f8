/** Tables of a backup, and the SQL that renders each row as JSON. */

/** A table in a backup. */
export interface BackupTable {
  readonly table: string
  /** The order of the rows, so that two backups of equal rows are equal. */
  readonly key: string
  /** SQL: the row as JSON, without presence, which is not part of a backup. */
  readonly image: string
}

const allColumns = (table: string, key: string): BackupTable => ({ table, key, image: `to_jsonb(${table})` })
const withoutPresence = (table: string): BackupTable => ({
  table,
  key: "id",
  image: `control_row_image(to_jsonb(${table}))`
})

/** Referenced tables come before the tables that refer to them. */
export const backupTables: ReadonlyArray<BackupTable> = [
  withoutPresence("agents"),
  withoutPresence("gateways"),
  allColumns("tunnels", "id"),
  allColumns("certificates", "domain"),
  allColumns("api_keys", "id"),
  allColumns("admin_tokens", "id"),
  allColumns("audit", "id")
]

/**
 * Tables that a backup omits. A restore starts a new timeline, so it needs no change log. The header carries what it needs of
 * `control_meta`. The other tables describe running processes, reports of connected clients and delivered warnings,
 * or are derived from tables of the backup (`wireguard_keys`).
 */
export const excludedTables: ReadonlyArray<string> = [
  "changes",
  "control_meta",
  "control_migrations",
  "nodes",
  "node_events",
  "readable_keys",
  "takeovers",
  "certificate_warnings",
  "expiry_warnings",
  "wireguard_keys",
  "audit_trimmed",
  "released_tunnel_ports",
  "tunnel_serving",
  "peer_reports"
]
