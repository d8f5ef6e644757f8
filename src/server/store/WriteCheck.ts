/** Checks that a login and a write of an operator would succeed, without a row or a lock. */
import { Context, Duration, Effect, Layer, Schema } from "effect"
import { ReservedPool } from "./ReservedPool.ts"
import type { StoreUnavailable } from "./StoreUnavailable.ts"
import { withStoreErrors } from "./sql.ts"

/** The privileges that a login or a write needs on each table. Triggers run with the privileges of the writer. */
const neededPrivileges: Readonly<Record<string, ReadonlyArray<string>>> = {
  ...Object.fromEntries(
    ["agents", "gateways", "tunnels", "certificates", "api_keys", "admin_tokens", "nodes", "takeovers"].map((table) => [
      table,
      ["select", "insert", "update", "delete"]
    ])
  ),
  wireguard_keys: ["select", "insert", "delete"],
  control_meta: ["select", "update"],
  changes: ["select", "insert"],
  audit: ["select", "insert"],
  node_events: ["select", "insert"]
}

/** How long one answer is shown, so that probes cost at most one query in this time. */
const cacheTime = Duration.seconds(1)

export class WriteCheck extends Context.Service<WriteCheck, {
  /** Reason why a login or a write would fail; undefined if it would succeed. At most 1 s old. */
  readonly problem: Effect.Effect<string | undefined, StoreUnavailable>
}>()("control/store/WriteCheck") {
  static readonly layer = Layer.effect(
    WriteCheck,
    Effect.gen(function*() {
      // Statements that occupy the other pool are no reason to take this process out of a balancer: logins do not use it.
      const sql = yield* ReservedPool
      const problem = yield* Effect.cachedWithTTL(
        Effect.map(withStoreErrors(sql.unsafe(query)), (rows) => problemOf(decodeFacts(rows)[0])),
        cacheTime
      )
      return WriteCheck.of({ problem })
    })
  )
}

const pairs = Object.entries(neededPrivileges).flatMap(([table, privileges]) =>
  privileges.map((privilege) => `('${table}', '${privilege}')`)
)

const query = `select current_setting('transaction_read_only') = 'on' as read_only,
  array(select upper(privilege) || ' on ' || name from (values ${pairs.join(", ")}) as needed(name, privilege)
    where to_regclass(name) is null or not has_table_privilege(to_regclass(name), privilege)) as missing`

const Facts = Schema.Struct({ read_only: Schema.Boolean, missing: Schema.Array(Schema.String) })
const decodeFacts = Schema.decodeUnknownSync(Schema.Tuple([Facts]))

function problemOf({ missing, read_only: isReadOnly }: typeof Facts.Type): string | undefined {
  if (isReadOnly) return "the database is read-only"
  return missing.length === 0 ? undefined : `the database user lacks privileges: ${missing.join(", ")}; grant them`
}
