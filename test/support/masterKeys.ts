/** Servers on one database that have different master keys, and how the change from one to another is watched. */
import { makeServer } from "./server.ts"
import type { TestClient } from "./TestClient.ts"
import { PgClient } from "@effect/sql-pg"
import { makeCipher } from "#crypto/Cipher.ts"
import { assert } from "@effect/vitest"
import { Effect, Option, Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

export const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "control-keys-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

export interface MasterKey {
  readonly id: string
  readonly text: string
}

export const newKey = (): MasterKey => {
  const text = randomBytes(32).toString("base64")
  return { text, id: makeCipher(Redacted.make(text)).keyId }
}

/** A server that writes under the first of these keys unless the database names another, and reads them all. */
export const serve = (url: string, own: MasterKey, ...others: ReadonlyArray<MasterKey>) =>
  makeServer({
    databaseUrl: Option.some(Redacted.make(url)),
    masterKey: Option.some(Redacted.make(own.text)),
    oldMasterKeys: others.length === 0
      ? Option.none()
      : Option.some(Redacted.make(others.map(({ text }) => text).join(",")))
  })

export type Server = Effect.Success<ReturnType<typeof makeServer>>

export const rotate = ({ operator }: Server, body: object = {}) =>
  Effect.promise(() => operator.post("/api/master-key/rotation", body))

export const state = ({ operator }: Server) =>
  Effect.promise(async () => {
    const { body, status } = await operator.get("/api/master-key")
    assert.strictEqual(status, 200, JSON.stringify(body))
    return body
  })

/** Nothing tells an operator that it is over but asking. */
export const over = (server: Server) =>
  Effect.repeat(state(server), {
    until: ({ isRotating }) => isRotating === false,
    schedule: Schedule.spaced("20 millis")
  })

/** Past every server. */
export const bySql = <A, E>(url: string, use: (sql: SqlClient.SqlClient) => Effect.Effect<A, E>) =>
  Effect.flatMap(SqlClient.SqlClient, use).pipe(
    Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })),
    Effect.scoped
  )

/** All that a change of the master key must leave as it is: every row but its secret, the counter, the audit, the log. */
export const untouched = (url: string) =>
  bySql(url, (sql) =>
    sql.unsafe<{ all: unknown }>(`select jsonb_build_object(
      'revision', (select revision from control_meta), 'timeline', (select timeline from control_meta),
      'agents', (select jsonb_agg(control_row_image(to_jsonb(a)) - 'wireguard_private_key' order by id) from agents a),
      'gateways', (select jsonb_agg(control_row_image(to_jsonb(g)) - 'wireguard_private_key' order by id) from gateways g),
      'certificates', (select jsonb_agg(to_jsonb(c) - 'private_key' order by domain) from certificates c),
      'changes', (select jsonb_agg(to_jsonb(c) #- '{row_image,wireguard_private_key}' #- '{row_image,private_key}'
        order by revision) from changes c),
      'audit', (select jsonb_agg(to_jsonb(a) order by id) from audit a where entity <> 'master_key')) as all`).pipe(
      Effect.map((rows) => rows[0]?.all)
    ))

/** Everything that has come by the time a heartbeat is answered. */
export const answered = Effect.fnUntraced(function*(client: TestClient) {
  client.send({ type: "heartbeat", data: { timestamp: 0 } })
  const messages = []
  while (true) {
    const message = yield* client.next
    if (message.type === "heartbeat_ack") return messages
    messages.push(message)
  }
})
