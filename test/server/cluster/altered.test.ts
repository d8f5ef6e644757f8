/** What somebody makes of a node's row by SQL, while the node lives. */
import { newDatabase } from "#support/database.ts"
import { makeServer } from "#support/server.ts"
import { join } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Option, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"

const alterations = [
  ["was set to drain", "update nodes set draining = true where name = 'altered'"],
  ["was set to drain for ever", "update nodes set draining = true, lease_until = 'infinity' where name = 'altered'"],
  ["was deleted", "delete from nodes where name = 'altered'"],
  ["has another mark", "update nodes set mark = gen_random_uuid() where name = 'altered'"],
  ["has lapsed", "update nodes set lease_until = now() - interval '1 day' where name = 'altered'"],
  ["is another's", "update nodes set id = 'another' where name = 'altered'"]
] as const

describe("a node that lives, whose row", () => {
  for (const [what, statement] of alterations) {
    it.live(
      `${what}, is whole again by itself`,
      () =>
        Effect.gen(function*() {
          const { url } = yield* newDatabase
          const masterKey = Option.some(Redacted.make(randomBytes(32).toString("base64")))
          const settings = { databaseUrl: Option.some(Redacted.make(url)), masterKey }
          const altered = yield* makeServer({ ...settings, nodeName: "altered" })
          const other = yield* makeServer({ ...settings, nodeName: "other" })
          const sql = Context.get(altered.context, SqlClient.SqlClient)
          const { apiKey, client, id } = yield* altered.joinAgent
          const fresh = yield* altered.newAgent
          yield* sql.unsafe(statement)

          // A lease and a sweep later, whatever has come of it meanwhile.
          yield* Effect.repeat(
            sql`select 1 from nodes n join agents a on a.session_node = n.id where n.name = 'altered' and not n.draining
              and n.lease_until between now() and now() + interval '10 seconds' and n.renewed_at > n.started_at + interval '12 seconds'
              and a.id = ${id} and a.status = 'online' and a.sent_revision is not null`,
            { until: (rows) => rows.length > 0 }
          )
          assert.strictEqual(client.ws.readyState, client.ws.OPEN)
          yield* join(altered.wsPort, "agent", fresh.apiKey)
          const nodes = yield* Effect.promise(() => other.operator.get("/api/nodes"))
          const states = nodes.body.items.map(({ name, state }: { name: string; state: string }) => `${name} ${state}`)
          assert.includeMembers(states, ["altered live", "other live"])
          // Its letters reach it.
          yield* join(other.wsPort, "agent", apiKey)
          assert.strictEqual((yield* client.closed).code, 4409)
        }),
      60_000
    )
  }
})
