/** What a backup consists of, and how each row is told. */

export interface BackedUp {
  readonly table: string
  /** In this order, so that two backups of the same rows are alike. */
  readonly key: string
  /** SQL: the row as JSON. Who is connected is of the moment: it is no part of a backup. */
  readonly image: string
}

const whole = (table: string, key: string): BackedUp => ({ table, key, image: `to_jsonb(${table})` })
const withoutPresence = (table: string): BackedUp => ({
  table,
  key: "id",
  image: `control_row_image(to_jsonb(${table}))`
})

/** What a row refers to stands before it. */
export const backedUp: ReadonlyArray<BackedUp> = [
  withoutPresence("agents"),
  withoutPresence("gateways"),
  whole("tunnels", "id"),
  whole("certificates", "domain"),
  whole("api_keys", "id"),
  whole("admin_tokens", "id"),
  whole("audit", "id")
]

/**
 * The history begins anew with a restored backup; `control_meta` is told in its first line. Which processes there are, and
 * what they have said to each other and to people, is of the moment.
 */
export const leftOut: ReadonlyArray<string> = [
  "changes",
  "control_meta",
  "control_migrations",
  "nodes",
  "node_events",
  "readable_keys",
  "takeovers",
  "certificate_warnings"
]
