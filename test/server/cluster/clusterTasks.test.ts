/** Tasks that run once for all nodes, tested with two servers on one database. */
import { publishExpiryWarnings } from "#services/CertificateExpiry.ts"
import { ChangeLog } from "#store/ChangeLog.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { issueCertificate } from "#support/certificates.ts"
import { adminToken } from "#support/testDatabase.ts"
import { type EventFollower, followEvents } from "#support/EventFollower.ts"
import { makeServer } from "#support/TestServer.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Logger, Option, Redacted, References } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"

type Server = Effect.Success<ReturnType<typeof makeServer>>

const domain = "app.example.com"

const settings = Effect.map(newDatabase, ({ url }) => ({
  databaseUrl: Option.some(Redacted.make(url)),
  masterKey: Option.some(Redacted.make(randomBytes(32).toString("base64")))
}))

const sqlOf = (server: Server) => Context.get(server.context, SqlClient.SqlClient)

/** Stores a certificate that is valid for `validity` days, of which `days` are left. */
const store = (server: Server, days: number, validity = 90) =>
  Effect.promise(async () => {
    const notAfter = new Date(Date.now() + days * 86_400_000)
    const notBefore = new Date(notAfter.getTime() - validity * 86_400_000)
    const { certificate, privateKey } = issueCertificate({ names: [domain], notAfter, notBefore })
    const { status } = await server.operator.put(`/api/certificates/${domain}`, { certificate, privateKey })
    assert.include([200, 201], status)
  })

/** Runs the task twice on all servers at the same time, and returns the logged warnings. */
const runOn = Effect.fnUntraced(function*(...servers: ReadonlyArray<Server>) {
  const warnings: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    if (logLevel === "Warn") warnings.push(String(message))
  })
  yield* Effect.forEach([...servers, ...servers], ({ context }) =>
    publishExpiryWarnings.pipe(
      Effect.provide(Logger.layer([logger])),
      Effect.provideService(References.MinimumLogLevel, "All"),
      Effect.provide(context)
    ), { concurrency: "unbounded" })
  return warnings
})

/** The next certificate warning that this follower receives. */
const nextWarning = (follower: EventFollower) =>
  Effect.map(
    follower.nextNamed("certificate.expiring"),
    ({ data }) => `${data.domain} ${data.percentLeft}%, ${data.days} days`
  )

describe("tasks of several nodes", () => {
  it.live(
    "a certificate causes one event and one log warning for each threshold, over two servers and a restart",
    () =>
      Effect.gen(function*() {
        const given = yield* settings
        const [one, other] = [yield* makeServer(given), yield* makeServer(given)]
        const followers = [yield* followEvents(one.apiUrl, adminToken), yield* followEvents(other.apiUrl, adminToken)]
        // Every follower gets every event: a duplicate or an unwanted event would be read in place of the next one.
        const warned = Effect.map(Effect.forEach(followers, nextWarning), (all) => [...new Set(all)])

        yield* store(one, 60)
        assert.deepStrictEqual(yield* runOn(one, other), [])

        yield* store(one, 20)
        assert.lengthOf(yield* runOn(one, other), 1)
        assert.deepStrictEqual(yield* warned, [`${domain} 25%, 20 days`])

        const restarted = yield* makeServer(given)
        assert.deepStrictEqual(yield* runOn(restarted, one, other), [])

        // The expiry passes two thresholds at once: only the nearest one counts.
        yield* sqlOf(one)`update certificates set expires_at = now() + interval '3 hours'`
        assert.lengthOf(yield* runOn(other, one), 1)
        assert.deepStrictEqual(yield* warned, [`${domain} 2%, 1 days`])

        yield* store(one, 5, 6)
        assert.deepStrictEqual(yield* runOn(one, other), [], "most of its six days are left")

        yield* store(one, 5)
        assert.match((yield* runOn(one, other)).join(), /expires within 5 days, .*, and was not renewed/u)
        assert.deepStrictEqual(yield* warned, [`${domain} 8%, 5 days`])
        const rows = yield* sqlOf(one)`select percent_left from expiry_warnings`
        assert.deepStrictEqual(
          rows.map(({ percent_left }) => percent_left),
          [8],
          "warnings of replaced certificates are deleted"
        )

        yield* sqlOf(one)`update certificates set expires_at = now() - interval '1 second'`
        assert.match((yield* runOn(one, other)).join(), /expired at/u)
        assert.deepStrictEqual(yield* warned, [`${domain} 0%, 0 days`])
        const metrics = yield* Effect.promise(async () => (await fetch(`${one.apiUrl}/metrics`)).text())
        for (const percent of [0, 2, 8, 25]) {
          assert.include(metrics, `control_certificates_expiring{left="${percent}%"} 1`)
        }
      }),
    60_000
  )

  it.live(
    "two nodes that compact the change log at the same time delete each change once",
    () =>
      Effect.gen(function*() {
        const given = yield* settings
        const [one, other] = [yield* makeServer(given), yield* makeServer(given)]
        const sql = sqlOf(one)
        yield* sql`insert into changes (revision, at, entity, op, entity_id)
        select n, now() - interval '2 days', 'tunnel', 'delete', 'of before' from generate_series(1, 500) n`
        yield* sql`update control_meta set revision = 20000`
        const compact = (server: Server) => Context.get(server.context, ChangeLog).compact
        yield* sql.withTransaction(Effect.gen(function*() {
          yield* sql`select pg_advisory_xact_lock(hashtext('control compaction'))`
          assert.strictEqual(yield* compact(other), 0, "another node is compacting")
        }))
        const removed = yield* Effect.all([compact(one), compact(other)], { concurrency: "unbounded" })
        assert.strictEqual(Math.max(...removed), 500)
        assert.strictEqual(Math.min(...removed), 0)
      }),
    30_000
  )
})
