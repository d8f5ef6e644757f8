/** The kinds of rows that the network is made of. */
import { Schema } from "effect"

export const RowKind = Schema.Literals(["agents", "gateways", "tunnels", "certificates", "keys"])
export type RowKind = typeof RowKind.Type

/** A value for each kind. */
export const ofEach = <A>(make: (kind: RowKind) => A): { readonly [kind in RowKind]: A } => ({
  agents: make("agents"),
  gateways: make("gateways"),
  tunnels: make("tunnels"),
  certificates: make("certificates"),
  keys: make("keys")
})

/** A number of rows of each kind. */
export const RowCounts = Schema.Struct(ofEach(() => Schema.Int))
export type RowCounts = typeof RowCounts.Type

/** So many rows of a kind are not there any more and were not deleted. */
export const Loss = Schema.Struct({
  kind: RowKind,
  known: Schema.Int.annotate({ description: "How many there were." }),
  missing: Schema.Int.annotate({ description: "How many of them are not there any more, and were not deleted." })
})
export type Loss = typeof Loss.Type
