/** Kinds of rows that make up the network. */
import { Schema } from "effect"
import { count } from "./sharedFields.ts"

export const RowKind = Schema.Literals(["agents", "gateways", "tunnels", "certificates", "keys"])
export type RowKind = typeof RowKind.Type

/** Record with one value for each kind. */
export const mapRowKinds = <A>(make: (kind: RowKind) => A): { readonly [kind in RowKind]: A } => ({
  agents: make("agents"),
  gateways: make("gateways"),
  tunnels: make("tunnels"),
  certificates: make("certificates"),
  keys: make("keys")
})

/** Number of rows of each kind. */
export const RowCounts = Schema.Struct(mapRowKinds(() => Schema.Int))
export type RowCounts = typeof RowCounts.Type

/** Rows of one kind that have disappeared without a delete. */
export const Loss = Schema.Struct({
  kind: RowKind,
  known: count("Number of rows before the loss."),
  missing: count("Number of rows that have disappeared without a delete.")
})
export type Loss = typeof Loss.Type
