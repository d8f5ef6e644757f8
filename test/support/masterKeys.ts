/** Servers with several master keys on one database, and observation of a key rotation. */
import { makeServer } from "./TestServer.ts"
import type { TestClient } from "./TestClient.ts"
import { PgClient } from "@effect/sql-pg"
import { makeCipher } from "#crypto/Cipher.ts"
import { assert } from "@effect/vitest"
import { Effect, Option, Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"

export interface MasterKey {
  readonly id: string
  readonly text: string
}

export const newMasterKey = (): MasterKey => {
  const text = randomBytes(32).toString("base64")
  return { text, id: makeCipher(Redacted.make(text)).keyId }
}

/** Starts a server that reads with all keys, and writes with the first one unless the database names another. */
export const startWithKeys = (url: string, own: MasterKey, ...others: ReadonlyArray<MasterKey>) =>
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

export const rotationState = ({ operator }: Server) =>
  Effect.promise(async () => {
    const { body, status } = await operator.get("/api/master-key")
    assert.strictEqual(status, 200, JSON.stringify(body))
    return body
  })

/** Polls until the rotation has ended, because the API sends no event for it. */
export const awaitRotationEnd = (server: Server) =>
  Effect.repeat(rotationState(server), {
    until: ({ isRotating }) => isRotating === false,
    schedule: Schedule.spaced("20 millis")
  })

/** Runs SQL without any server. */
export const withSql = <A, E>(url: string, use: (sql: SqlClient.SqlClient) => Effect.Effect<A, E>) =>
  Effect.flatMap(SqlClient.SqlClient, use).pipe(
    Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })),
    Effect.scoped
  )

/** Everything that a rotation must not change: rows without their secrets, revision, audit log and change log. */
export const rowsWithoutSecrets = (url: string) =>
  withSql(url, (sql) =>
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

/** Sends a heartbeat and returns all messages before its answer. */
export const messagesUntilHeartbeatAck = Effect.fnUntraced(function*(client: TestClient) {
  client.send({ type: "heartbeat", data: { timestamp: 0 } })
  const messages = []
  while (true) {
    const message = yield* client.next
    if (message.type === "heartbeat_ack") return messages
    messages.push(message)
  }
})
