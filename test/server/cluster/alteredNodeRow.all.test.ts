/** A live node recovers when another program changes its row by SQL. */
import { newDatabase } from "#support/testDatabase.ts"
import { fastIntervals } from "#support/fastIntervals.ts"
import { makeServer } from "#support/TestServer.ts"
import { join } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Option, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"

const alterations = [
  ["was marked as draining", "update nodes set draining = true where name = 'altered'"],
  [
    "was marked as draining without an end",
    "update nodes set draining = true, lease_until = 'infinity' where name = 'altered'"
  ],
  ["was deleted", "delete from nodes where name = 'altered'"],
  ["has another epoch", "update nodes set mark = gen_random_uuid() where name = 'altered'"],
  ["has an expired lease", "update nodes set lease_until = now() - interval '1 day' where name = 'altered'"],
  ["has the id of another node", "update nodes set id = 'another' where name = 'altered'"]
] as const

const leaseSeconds = Duration.toSeconds(fastIntervals.leaseDuration)
/** A lease and a sweep: by then, everything that other nodes do about the row has happened. */
const settledSeconds = leaseSeconds + Duration.toSeconds(fastIntervals.presenceSweepInterval)

describe("a live node", () => {
  for (const [what, statement] of alterations) {
    it.live(
      `a live node repairs its row by itself after the row ${what}`,
      () =>
        Effect.gen(function*() {
          const { url } = yield* newDatabase
          const masterKey = Option.some(Redacted.make(randomBytes(32).toString("base64")))
          const settings = { databaseUrl: Option.some(Redacted.make(url)), masterKey }
          const altered = yield* makeServer({ ...settings, nodeName: "altered" }, fastIntervals)
          const other = yield* makeServer({ ...settings, nodeName: "other" }, fastIntervals)
          const sql = Context.get(altered.context, SqlClient.SqlClient)
          const { apiKey, client, id } = yield* altered.joinAgent
          const fresh = yield* altered.newAgent
          yield* sql.unsafe(statement)

          yield* Effect.repeat(
            sql`select 1 from nodes n join agents a on a.session_node = n.id where n.name = 'altered' and not n.draining
              and n.lease_until between now() and now() + make_interval(secs => ${leaseSeconds})
              and n.renewed_at > n.started_at + make_interval(secs => ${settledSeconds})
              and a.id = ${id} and a.status = 'online' and a.sent_revision is not null`,
            { until: (rows) => rows.length > 0 }
          )
          assert.strictEqual(client.ws.readyState, client.ws.OPEN)
          yield* join(altered.wsPort, "agent", fresh.apiKey)
          const nodes = yield* Effect.promise(() => other.operator.get("/api/nodes"))
          const states = nodes.body.items.map(({ name, state }: { name: string; state: string }) => `${name} ${state}`)
          assert.includeMembers(states, ["altered live", "other live"])
          // The mailbox of the node works again: the node learns of a takeover.
          yield* join(other.wsPort, "agent", apiKey)
          assert.strictEqual((yield* client.closed).code, 4409)
        }),
      60_000
    )
  }
})
