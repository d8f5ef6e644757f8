/** Findings of the doctor: none in a healthy network, and one for each problem. */
import type { Finding } from "#schema/doctor.ts"
import type { SettingsValues } from "#server/Settings.ts"
import { Backup } from "#store/backup/Backup.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { issueCertificate } from "#support/certificates.ts"
import { makeServer } from "#support/TestServer.ts"
import * as Findings from "#doctor/findings.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Option, Redacted, Schedule, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

const certificateFor = (name: string, end: number) =>
  issueCertificate({ names: [name], notBefore: new Date(end - 90 * 86_400_000), notAfter: new Date(end) }).certificate

const start = Effect.fnUntraced(function*(settings: Partial<SettingsValues> = {}) {
  const { url } = yield* newDatabase
  const server = yield* makeServer({ databaseUrl: Option.some(Redacted.make(url)), ...settings })
  let last = ""
  const examine = Effect.promise(() => server.operator.get("/api/doctor")).pipe(
    Effect.repeat({ until: ({ body }) => body.at !== last, schedule: Schedule.spaced("50 millis") }),
    Effect.map(({ body }) => {
      last = body.at
      return body.findings as ReadonlyArray<Finding>
    })
  )
  const sql = (...statements: ReadonlyArray<string>) =>
    Effect.flatMap(
      SqlClient.SqlClient,
      (client) => client.withTransaction(Effect.forEach(statements, (statement) => client.unsafe(statement)))
    ).pipe(
      Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })),
      Effect.scoped
    )
  return { ...server, url, examine, sql }
})

/** The findings of a check, as `severity: what`. */
const findingsOf = (findings: ReadonlyArray<Finding>, check: string) =>
  findings.filter((finding) => finding.check === check).map(({ severity, what }) => `${severity}: ${what}`)

const only = (findings: ReadonlyArray<Finding>, check: string): string => {
  const all = findingsOf(findings, check)
  assert.lengthOf(all, 1, JSON.stringify(all))
  return all[0] ?? ""
}

describe("the doctor", () => {
  it.live("the doctor finds no problem in a new network, and reports every check", () =>
    Effect.gen(function*() {
      const { context, examine } = yield* start()
      yield* Stream.runDrain(Context.get(context, Backup).dump(Option.none()))
      const findings = yield* examine
      assert.deepStrictEqual(findings.filter(({ severity }) => severity !== "ok"), [])
      assert.includeMembers(findings.map(({ check }) => check), [
        "feed",
        "clock",
        "disk",
        "schema",
        "rows",
        "numbers",
        "high-water",
        "backup",
        "certificates",
        "keys",
        "clients",
        "nodes",
        "settings"
      ])
    }))

  it.live("the doctor finds disabled, dropped and changed triggers, functions, columns and constraints", () =>
    Effect.gen(function*() {
      const { examine, sql } = yield* start()
      yield* sql(
        "alter table tunnels disable trigger tunnels_updated",
        "drop trigger agents_deleted on agents",
        "create or replace function control_touch_updated_at() returns trigger language plpgsql as $$ begin return new; end $$",
        "alter table gateways alter column listen_port set default 1",
        "alter table tunnels drop constraint tunnels_agent_exists"
      )
      const found = (yield* examine).find(({ check }) => check === "schema")
      assert.strictEqual(found?.severity, "fail")
      for (
        const part of [
          "the trigger tunnels_updated of tunnels is disabled",
          "the trigger agents_deleted of agents is missing",
          "the function control_touch_updated_at() was changed",
          "the column gateways.listen_port was changed",
          "the constraint tunnels_agent_exists is missing"
        ]
      ) assert.include(found?.what, part)
    }))

  it.live("the schema comparison leaves no schema behind, and ignores tables of other applications", () =>
    Effect.gen(function*() {
      const { examine, sql } = yield* start()
      yield* sql("create table invoices (id text)", "alter table tunnels add column invoice text")
      assert.match(only(yield* examine, "schema"), /^ok/u)
      const [schemas] = yield* sql("select nspname from pg_namespace where nspname like 'control_doctor%'")
      assert.deepStrictEqual(schemas, [])
    }))

  it.live("the doctor finds nodes of different versions, and a lost node", () =>
    Effect.gen(function*() {
      const { examine, sql } = yield* start({ nodeName: "today's" })
      assert.strictEqual(only(yield* examine, "nodes"), "ok: 1 live node")
      yield* sql(
        "insert into nodes (id, name, version, lease_until) values ('o', 'old', '0.1.0', now() + interval '1 hour')",
        "insert into nodes (id, name, version, lease_until) values ('l', 'gone', '0.1.0', now() - interval '1 minute')"
      )
      const [lost, versions] = findingsOf(yield* examine, "nodes")
      assert.match(lost ?? "", /^warn: nodes ended without a shutdown: gone, last seen /u)
      assert.match(versions ?? "", /^warn: nodes have different versions: today's \S+, old 0\.1\.0$/u)
    }))

  it.live("the doctor finds unreadable rows", () =>
    Effect.gen(function*() {
      const { examine, newAgent, sql } = yield* start()
      const { id } = yield* newAgent
      yield* sql(
        `update agents set wireguard_private_key = 'v1.0123456789abcdef.AAAAAAAAAAAAAAAA..AAAAAAAAAAAAAAAAAAAAAA'`
      )
      const text = only(yield* examine, "rows")
      assert.include(text, "fail")
      assert.include(text, id)
    }))

  it.live("the doctor finds certificates that end soon or late, cover another domain, are self-signed, withheld or missing", () =>
    Effect.gen(function*() {
      const { examine, newAgent, newTunnel, sql } = yield* start()
      const agent = yield* newAgent
      yield* newTunnel(agent.id, { domain: "bare.example.com" })
      // Tunnels without TLS at the gateways need no certificate.
      const game = { name: "game", protocol: "tcp", listenPort: 25_565 }
      yield* newTunnel(agent.id, { ...game, domain: null })
      yield* newTunnel(agent.id, { protocol: "tls", domain: "passed.example.com" })
      const now = Date.now()
      const certificates = {
        "ended.example.com": certificateFor("ended.example.com", now - 1000),
        "soon.example.com": certificateFor("soon.example.com", now + 5 * 86_400_000),
        "foreign.example.com": certificateFor("other.example.com", now + 60 * 86_400_000),
        "late.example.com": certificateFor("late.example.com", now + 500 * 86_400_000),
        "*.held.example.com": certificateFor("*.held.example.com", now + 60 * 86_400_000),
        "damaged.example.com": "nothing"
      }
      for (const [domain, pem] of Object.entries(certificates)) {
        yield* sql(`insert into certificates (domain, certificate, private_key, expires_at)
          values ('${domain}', '${pem}', 'x', now())`)
      }
      yield* sql(`update certificates set withheld = true where domain = '*.held.example.com'`)
      const text = findingsOf(yield* examine, "certificates").join("\n")
      assert.match(text, /warn: the certificates of late.example.com expire more than 398 days from now/u)
      assert.match(text, /fail: the certificates of \*.held.example.com are withheld/u)
      assert.match(text, /warn: the certificates of .* are self-signed/u)
      assert.match(text, /fail: the certificates of damaged.example.com cannot be read/u)
      assert.match(text, /fail: the certificates of ended.example.com have expired/u)
      assert.match(text, /warn: less than a quarter of the validity of the certificates of soon.example.com is left/u)
      assert.match(text, /fail: the certificates stored for foreign.example.com do not cover that domain/u)
      assert.match(text, /note: no certificate is stored for bare.example.com$/mu)
    }))

  it.live("the doctor finds unused keys, lagging and rejecting clients, and tunnels of offline agents", () =>
    Effect.gen(function*() {
      const { examine, newAgent, newGateway, newTunnel, sql } = yield* start()
      const agent = yield* newAgent
      const behind = yield* newAgent
      const gateway = yield* newGateway
      yield* newTunnel(agent.id)
      yield* sql(
        `update api_keys set created_at = now() - interval '2 days' where agent_id = '${agent.id}'`,
        `update api_keys set created_at = now() - interval '200 days', last_used_at = now() - interval '91 days'
           where gateway_id = '${gateway.id}'`,
        `update agents set status = 'online', last_seen_at = now() + interval '1 hour', session_id = 's', sent_revision = 500,
           applied_revision = 10, nack = '{"revision": 11, "code": "Busy", "message": "port in use"}' where id = '${behind.id}'`
      )
      const findings = yield* examine
      const keys = findingsOf(findings, "keys").join("\n")
      assert.include(keys, `warn: API keys not used for 90 days: gateway ${gateway.id}, key `)
      assert.include(keys, `note: API keys never used: agent ${agent.id}, key `)
      const clients = findingsOf(findings, "clients").join("\n")
      assert.include(clients, `(${behind.id}), 490 revisions behind`)
      assert.include(clients, `(${behind.id}): Busy, port in use`)
      assert.match(
        clients,
        new RegExp(String.raw`warn: offline agents with enabled tunnels: agent agent \d+ \(${agent.id}\), 1`, "u")
      )
      assert.include(clients, `offline gateways: gateway gateway`)
    }))

  it.live("the doctor counts clients of a node with an expired lease as offline, as the API does", () =>
    Effect.gen(function*() {
      const { examine, newAgent, newTunnel, sql } = yield* start()
      const agent = yield* newAgent
      yield* newTunnel(agent.id)
      yield* sql(
        `insert into nodes (id, name, version, lease_until) values ('gone', 'gone', '0', now() - interval '1 second')`,
        `update agents set status = 'online', last_seen_at = now() + interval '1 hour', session_id = 's', session_node = 'gone'`
      )
      assert.match(
        only(yield* examine, "clients"),
        new RegExp(String.raw`offline agents with enabled tunnels: agent agent \d+ \(${agent.id}\), 1`, "u")
      )
    }))

  it.live("the doctor finds a held update, and a damaged high-water mark", () =>
    Effect.gen(function*() {
      const dataDir = yield* Effect.acquireRelease(
        Effect.promise(() => mkdtemp(join(tmpdir(), "control-doctor-"))),
        (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
      )
      yield* Effect.promise(() => writeFile(join(dataDir, "high-water.json"), `{"timeline":"x","revi`))
      const { examine, newAgent, newTunnel, sql } = yield* start({ dataDir, masterKey: Option.none() })
      assert.include(only(yield* examine, "high-water"), "warn: high-water.json was damaged")
      const { id } = yield* newAgent
      yield* Effect.forEach(Array.from({ length: 20 }), () => newTunnel(id))
      assert.match(only(yield* examine, "feed"), /^ok/u)
      yield* sql(
        "alter table tunnels disable trigger user",
        "delete from tunnels",
        "alter table tunnels enable trigger user",
        "update control_meta set timeline = 'another'"
      )
      assert.include(only(yield* examine, "feed"), "20 of 20 tunnels are missing and were not deleted")
    }))
})

describe("thresholds of findings", () => {
  const gibibyte = 1024 ** 3
  const now = 1_000 * 86_400_000
  const skewed = (clockSkew: number) => Findings.clockFinding({ clockSkew } as never).severity
  it("a clock difference is a warning from 2 s and a failure from 30 s", () => {
    assert.deepStrictEqual([0, 1_999, -2_000, 29_000, -30_000].map(skewed), ["ok", "ok", "warn", "warn", "fail"])
  })

  it("free disk space is a warning below 1 GiB or 10 %, and a failure below 0.25 GiB", () => {
    const space = (free: number, total: number) => Findings.diskFinding("data", { free, total }).severity
    assert.strictEqual(space(2 * gibibyte, 10 * gibibyte), "ok")
    assert.strictEqual(space(2 * gibibyte, 100 * gibibyte), "warn")
    assert.strictEqual(space(0.9 * gibibyte, 2 * gibibyte), "warn")
    assert.strictEqual(space(0.2 * gibibyte, 2 * gibibyte), "fail")
    assert.strictEqual(Findings.diskFinding("data", undefined).severity, "ok")
  })

  it("a backup is a warning after 7 days, and a note before the first", () => {
    const age = (days: number) => Findings.backupFinding(now - days * 86_400_000, now).severity
    assert.deepStrictEqual([0, 6.9, 7, 100].map(age), ["ok", "ok", "warn", "warn"])
    assert.strictEqual(Findings.backupFinding(undefined, now).severity, "note")
  })

  it("a schema that cannot be compared is a note, because the schema may be correct", () => {
    assert.strictEqual(Findings.schemaFinding(undefined).severity, "note")
  })

  it("a finding names the first five of many names", () => {
    assert.strictEqual(Findings.firstNames(["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more")
  })

  it("every problem has a reason and a remedy", () => {
    for (const finding of [Findings.backupFinding(undefined, now), Findings.highWaterMarkFinding("damaged")]) {
      assert.notStrictEqual(finding.why, "")
      assert.notStrictEqual(finding.remedy, "")
    }
  })
})
