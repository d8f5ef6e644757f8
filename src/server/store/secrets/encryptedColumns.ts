/** Encrypted columns of the database, for re-encryption and for backups. */

/** A column whose values are encrypted. A value is bound to the table, the column, and the key of its row. */
export interface EncryptedColumn {
  readonly table: "agents" | "gateways" | "certificates"
  readonly column: "wireguard_private_key" | "private_key"
  /** The column that identifies the row. */
  readonly key: "id" | "domain"
}

/** Every encrypted column. The change log repeats their values in its row images. */
export const encryptedColumns: ReadonlyArray<EncryptedColumn> = [
  { table: "agents", column: "wireguard_private_key", key: "id" },
  { table: "gateways", column: "wireguard_private_key", key: "id" },
  { table: "certificates", column: "private_key", key: "domain" }
]
