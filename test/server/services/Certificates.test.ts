/** Certificates that gateways obtain: checks and storage. */
import { Certificates } from "#services/Certificates.ts"
import { AgentId, GatewayId, HostName } from "#schema/ids.ts"
import { CertificateStore } from "#store/CertificateStore.ts"
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

const outcomeOf = (data: ReturnType<typeof certificateFor>) =>
  Effect.flatMap(
    Certificates,
    (certificates) =>
      Effect.match(certificates.storeObtained(gateway, data), {
        onFailure: (error) => error.message,
        onSuccess: () => "stored"
      })
  )

layer(
  Certificates.layer.pipe(Layer.provideMerge(CertificateStore.layer), Layer.provideMerge(TestDatabase)),
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

  it.effect("an obtained certificate needs a tunnel with its domain, or for a wildcard one label below", () =>
    Effect.gen(function*() {
      yield* tunnelTo("a.wild.example.com", "*.same.example.com", "a.b.deep.example.com", "bare.example.org")
      assert.match(yield* outcomeOf(certificateFor("free.example.com")), /serves no tunnel whose domain/u)
      assert.match(yield* outcomeOf(certificateFor("*.deep.example.com")), /serves no tunnel whose domain/u)
      assert.match(yield* outcomeOf(certificateFor("*.bare.example.org")), /serves no tunnel whose domain/u)
      assert.strictEqual(yield* outcomeOf(certificateFor("*.wild.example.com")), "stored")
      assert.strictEqual(yield* outcomeOf(certificateFor("*.same.example.com")), "stored")
    }))

  it.effect("only an operator can replace a certificate by one that expires earlier", () =>
    Effect.gen(function*() {
      const certificates = yield* Certificates
      yield* tunnelTo("renewed.example.com")
      assert.strictEqual(yield* outcomeOf(certificateFor("renewed.example.com", 60)), "stored")
      assert.strictEqual(yield* outcomeOf(certificateFor("renewed.example.com", 90)), "stored")
      const earlier = certificateFor("renewed.example.com", 30)
      assert.match(yield* outcomeOf(earlier), /expires later is already stored/u)
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
})
