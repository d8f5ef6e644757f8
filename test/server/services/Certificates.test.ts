/** Certificates that gateways obtain: checks and storage. */
import { Events } from "#events/Events.ts"
import { Certificates } from "#services/Certificates.ts"
import { AgentId, GatewayId, HostName } from "#schema/ids.ts"
import { actingAs } from "#store/AuditActor.ts"
import { CertificateStore } from "#store/CertificateStore.ts"
import { EventStore } from "#store/EventStore.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import { issueCertificate } from "#support/certificates.ts"
import { TestDatabase } from "#support/testDatabase.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"

const gateway = GatewayId.make("g1")

const inDays = (days: number) => new Date(Date.now() + days * 86_400_000)

const certificateFor = (domain: string, days = 90) => ({
  domain: HostName.make(domain),
  ...issueCertificate({ names: [domain], notAfter: inDays(days) })
})

const tunnelTo = Effect.fnUntraced(function*(...domains: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  const agentId = AgentId.make("a1")
  yield* sql`insert into agents (id, name, virtual_ip, subnet, subnet_index, wireguard_public_key, wireguard_private_key)
    values (${agentId}, 'home', '10.64.0.1', '10.64.0.0/24', 0, '', '') on conflict do nothing`
  yield* sql`insert into gateways (id, name, slot, wireguard_public_key, wireguard_private_key)
    values (${gateway}, 'edge', 0, '', '') on conflict do nothing`
  for (const domain of domains) {
    yield* sql`insert into tunnels (agent_id, domain, target) values (${agentId}, ${domain}, 'localhost:80')`
  }
})

const changes = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => Effect.map(sql`select count(*)::int as n from changes where entity = 'certificate'`, ([row]) => row?.n)
)

const outcomeOf = (data: ReturnType<typeof certificateFor>, by = gateway) =>
  Effect.flatMap(
    Certificates,
    (certificates) =>
      Effect.match(actingAs(`gateway:${by}`, null)(certificates.storeObtained(by, data)), {
        onFailure: (error) => error.message,
        onSuccess: () => "stored"
      })
  )

/** A gateway that is limited to these domains. */
const limitedTo = Effect.fnUntraced(function*(id: string, ...domains: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`insert into gateways (id, name, slot, wireguard_public_key, wireguard_private_key, serves)
    select ${id}, ${id}, max(slot) + 1, '', '', ${JSON.stringify({ agents: [], domains })}::jsonb from gateways`
  return GatewayId.make(id)
})

const withheldOf = (domain: string) =>
  Effect.map(
    Effect.flatMap(Certificates, (certificates) => certificates.find(HostName.make(domain))),
    ({ source, withheld }) => ({ source, withheld })
  )

layer(
  Certificates.layer.pipe(
    Layer.provideMerge(CertificateStore.layer),
    Layer.provideMerge(Events.layer),
    Layer.provideMerge(EventStore.layer),
    Layer.provideMerge(TestDatabase)
  ),
  { excludeTestServices: true }
)("certificates obtained by gateways", (it) => {
  it.effect("an obtained certificate is stored once, with its key encrypted", () =>
    Effect.gen(function*() {
      yield* tunnelTo("app.example.com")
      const data = certificateFor("app.example.com")
      assert.strictEqual(yield* outcomeOf(data), "stored")
      assert.strictEqual(yield* outcomeOf(data), "stored")
      assert.strictEqual(yield* changes, 1)
      const sql = yield* SqlClient.SqlClient
      const { cipher } = yield* Secrets
      const [row] = yield* sql`select private_key as key from certificates where domain = 'app.example.com'`
      const key = yield* Effect.fromResult(
        cipher.decrypt(String(row?.key), { table: "certificates", column: "private_key", row: "app.example.com" })
      )
      assert.strictEqual(key, data.privateKey)
    }))

  it.effect("the answer to a limited gateway does not depend on tunnels of others", () =>
    Effect.gen(function*() {
      yield* tunnelTo("a.shared.example.com", "b.shared.example.com", "a.alone.example.com")
      const limited = yield* limitedTo("curious", "a.shared.example.com", "a.alone.example.com", "*.listed.example.com")
      const answers = yield* Effect.forEach(
        ["*.shared.example.com", "*.alone.example.com", "*.none.example.com"],
        (domain) => outcomeOf(certificateFor(domain), limited)
      )
      assert.strictEqual(new Set(answers).size, 1)
      assert.match(answers[0] ?? "", /only if its `serves` lists the same wildcard/u)
      const others = yield* Effect.forEach(
        ["b.shared.example.com", "c.shared.example.com"],
        (domain) => outcomeOf(certificateFor(domain), limited)
      )
      assert.strictEqual(new Set(others).size, 1)
      assert.match(others[0] ?? "", /serves no tunnel/u)
      yield* tunnelTo("a.listed.example.com")
      assert.strictEqual(yield* outcomeOf(certificateFor("*.listed.example.com"), limited), "stored")
    }))

  it.effect("an obtained certificate needs a tunnel with its domain, or for a wildcard one label below", () =>
    Effect.gen(function*() {
      yield* tunnelTo("a.wild.example.com", "*.same.example.com", "a.b.deep.example.com", "bare.example.org")
      assert.match(yield* outcomeOf(certificateFor("free.example.com")), /serves no tunnel whose domain/u)
      assert.match(yield* outcomeOf(certificateFor("*.deep.example.com")), /serves no tunnel whose domain/u)
      assert.match(yield* outcomeOf(certificateFor("*.bare.example.org")), /serves no tunnel whose domain/u)
      assert.strictEqual(yield* outcomeOf(certificateFor("*.wild.example.com")), "stored")
      assert.strictEqual(yield* outcomeOf(certificateFor("*.same.example.com")), "stored")
    }))

  it.effect("only its source or an operator can replace a certificate by one that expires earlier", () =>
    Effect.gen(function*() {
      const certificates = yield* Certificates
      yield* tunnelTo("renewed.example.com")
      const sql = yield* SqlClient.SqlClient
      yield* sql`insert into gateways (id, name, slot, wireguard_public_key, wireguard_private_key)
        values ('other', 'other', 100, '', '')`
      assert.strictEqual(yield* outcomeOf(certificateFor("renewed.example.com", 60)), "stored")
      assert.strictEqual(yield* outcomeOf(certificateFor("renewed.example.com", 90)), "stored")
      const earlier = certificateFor("renewed.example.com", 30)
      assert.match(yield* outcomeOf(earlier, GatewayId.make("other")), /a newer certificate is already stored/u)
      const { domain, ...certificate } = earlier
      yield* certificates.put(domain, certificate)
      assert.strictEqual((yield* certificates.find(domain)).expiresAt, earlier.expiresAt)
    }))

  it.effect("an obtained certificate with a wrong key, domain or expiry is rejected", () =>
    Effect.gen(function*() {
      yield* tunnelTo("checked.example.com")
      const data = certificateFor("checked.example.com")
      const before = yield* changes
      assert.match(
        yield* outcomeOf({ ...data, privateKey: certificateFor("checked.example.com").privateKey }),
        /does not belong/u
      )
      assert.match(yield* outcomeOf({ ...data, domain: HostName.make("app.example.com") }), /does not cover/u)
      assert.match(
        yield* outcomeOf({ ...data, expiresAt: inDays(91).toISOString() }),
        /differs from the expiry of the certificate/u
      )
      assert.strictEqual(yield* changes, before)
    }))

  it.effect("a certificate that is valid for centuries is rejected, and one of a limited gateway replaces no other", () =>
    Effect.gen(function*() {
      const domain = "worst.example.com"
      yield* tunnelTo(domain)
      const limited = yield* limitedTo("limited", domain)
      assert.strictEqual(yield* outcomeOf(certificateFor(domain)), "stored")
      const far = {
        ...certificateFor(domain),
        ...issueCertificate({ names: [domain], notAfter: new Date("9966-01-01T00:00:00Z") })
      }
      for (const by of [limited, gateway]) assert.match(yield* outcomeOf(far, by), /valid for more than 398 days/u)
      assert.match(yield* outcomeOf(certificateFor(domain, 397), limited), /may not replace/u)
      assert.deepStrictEqual(yield* withheldOf(domain), { source: `gateway:${gateway}`, withheld: false })
      const sql = yield* SqlClient.SqlClient
      yield* sql`update certificates set source = 'gateway:deleted' where domain = ${domain}`
      assert.strictEqual(yield* outcomeOf(certificateFor(domain, 397), limited), "stored", "its gateway was deleted")
      assert.strictEqual(yield* outcomeOf(certificateFor(domain, 6), limited), "stored", "its own shorter one")
    }))

  it.effect("the same certificate with other text around it is no change, and new ones are limited", () =>
    Effect.gen(function*() {
      const domain = "amplified.example.com"
      yield* tunnelTo(domain)
      const before = Number(yield* changes)
      const data = certificateFor(domain)
      for (let n = 0; n < 20; n += 1) {
        const certificate = `# ${n}\n${data.certificate}${"\n".repeat(n)}`
        assert.strictEqual(yield* outcomeOf({ ...data, certificate }), "stored")
      }
      assert.strictEqual(yield* changes, before + 1)
      const outcomes = yield* Effect.forEach(Array.from({ length: 20 }), () => outcomeOf(certificateFor(domain)))
      assert.strictEqual(outcomes.filter((outcome) => outcome === "stored").length, 9)
      assert.match(outcomes.at(-1) ?? "", /too many certificates/u)
      assert.strictEqual(yield* changes, before + 10)
    }))

  it.effect("a limited gateway's wildcard is withheld while it covers a tunnel that the gateway does not serve", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* tunnelTo("a.later.example.com")
      const wildcard = "*.later.example.com"
      const limited = yield* limitedTo("later", wildcard)
      assert.strictEqual(yield* outcomeOf(certificateFor(wildcard), limited), "stored")
      const source = `gateway:${limited}`
      assert.deepStrictEqual(yield* withheldOf(wildcard), { source, withheld: false })
      const serve = (agents: ReadonlyArray<string>, ...domains: ReadonlyArray<string>) =>
        sql`update gateways set serves = ${JSON.stringify({ agents, domains })}::jsonb where id = ${limited}`
      const states: Array<boolean> = []
      for (
        const change of [
          tunnelTo("b.later.example.com"),
          serve([], "a.later.example.com"),
          serve(["a1"]),
          serve([], "a.later.example.com"),
          sql`delete from tunnels where domain = 'b.later.example.com'`,
          sql`update tunnels set domain = 'c.later.example.com' where domain = 'a.later.example.com'`
        ]
      ) {
        yield* change
        states.push((yield* withheldOf(wildcard)).withheld)
      }
      assert.deepStrictEqual(states, [false, true, false, true, false, true])
      const images = yield* sql`select row_image ->> 'withheld' as withheld from changes
        where entity = 'certificate' and entity_id = ${wildcard} order by revision`
      assert.deepStrictEqual(images.map(({ withheld }) => withheld === "true"), [false, true, false, true, false, true])
      yield* (yield* Certificates).put(HostName.make(wildcard), certificateFor(wildcard))
      assert.deepStrictEqual(yield* withheldOf(wildcard), { source: "control", withheld: false })
    }))
})
