/**
 * Takes paths of secrets that no other test takes. As after every test file, `support/checkSecretLeaks.ts` searches all output, so
 * most tests here only take the path with a secret.
 */
import { mintApiKey } from "#crypto/apiKeys.ts"
import { Network } from "#feed/Network.ts"
import { AgentId, KeyId } from "#schema/ids.ts"
import { readSettings } from "#server/Settings.ts"
import { ApiKeyStore } from "#store/ApiKeyStore.ts"
import { StatementFailed, withStoreErrors } from "#store/sql.ts"
import { api } from "./support/apiClient.ts"
import { SecretScanner, secretScanner } from "./support/SecretScanner.ts"
import { issueCertificate } from "./support/certificates.ts"
import { adminToken, quiet } from "./support/testDatabase.ts"
import { sendGet, sendRequest, sendUpgrade } from "./support/rawHttp.ts"
import { makeServer } from "./support/TestServer.ts"
import { connect, join } from "./support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"

const text = (path: string, kind: string) => `${kind} in ${path}`

describe("a failed SQL statement", () => {
  it.live("a failed SQL statement becomes a defect that names the constraint and the table, without row values and parameters", () =>
    Effect.gen(function*() {
      const server = yield* makeServer()
      const [one, other, third] = [yield* server.newAgent, yield* server.newAgent, yield* server.newAgent]
      const keys = Context.get(server.context, ApiKeyStore)
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const create = (agent: { readonly id: string }, hash: string) =>
        keys.create({ type: "agent", id: AgentId.make(agent.id) }, {
          id: KeyId.make(randomBytes(6).toString("hex")),
          hash
        })
      const hash = randomBytes(32).toString("hex")
      const secret = randomBytes(32).toString("base64url")
      const scanner = new SecretScanner()
      scanner.addSecret("master key", secret)
      scanner.addSecret("hash of an API key", hash)
      // PostgreSQL's log must not contain this hash either. It may contain texts that only a statement of this test quotes.
      secretScanner.addSecret("hash of an API key", hash)
      yield* create(one, hash)
      const failing = [
        [
          create(other, hash),
          "SQLSTATE 23505), api_keys_hash_key, table api_keys"
        ],
        [create(third, secret), "api_keys_hash_check, table api_keys"],
        [withStoreErrors(sql`select ${secret}::text::int`), "SQLSTATE 22P02"],
        [withStoreErrors(sql`select * from ${sql("no_such_table")} where secret = ${secret}`), "SQLSTATE 42P01"],
        [
          withStoreErrors(
            sql.withTransaction(withStoreErrors(sql`select 1 / (${secret} = ${secret})::int::text::int - 1 / 0`))
          ),
          "SQLSTATE 22012"
        ]
      ] as const
      for (const [statement, facts] of failing) {
        const exit = yield* Effect.exit(statement as Effect.Effect<unknown, unknown>)
        if (Exit.isSuccess(exit)) return assert.fail("the statement succeeded")
        const defect = Cause.squash(exit.cause)
        assert.instanceOf(defect, StatementFailed)
        assert.include(String(defect), facts)
        scanner.addOutput("the cause", `${Cause.pretty(exit.cause)} ${JSON.stringify(exit.cause)}`)
        yield* Effect.logError("the statement failed", exit.cause).pipe(Effect.provide(quiet))
      }
      assert.deepStrictEqual(scanner.findLeaks(), [])
    }))

  it.live("a failed SQL statement reaches no response: the API returns 500 without a cause, and clients are closed", () =>
    Effect.gen(function*() {
      const server = yield* makeServer()
      const agent = yield* server.newAgent
      const sql = Context.get(server.context, SqlClient.SqlClient)
      yield* sql`alter table api_keys rename to gone`
      const { status } = yield* Effect.promise(() => server.operator.post("/api/agents", { name: adminToken }))
      assert.strictEqual(status, 500)
      yield* sql`alter table agents rename to gone_too`
      const client = yield* connect(server.wsPort, "?type=agent")
      client.send({ type: "auth", data: { apiKey: agent.apiKey } })
      assert.include([1011, 1013], (yield* client.closed).code)
      yield* Effect.promise(() => server.operator.get("/api/agents"))
      yield* Effect.promise(() => server.operator.get("/api/doctor"))
    }))

  it.live("a failed SQL statement reveals nothing when its connection ends inside a transaction", () =>
    Effect.gen(function*() {
      const server = yield* makeServer()
      const agent = yield* server.newAgent
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const exit = yield* Effect.exit(withStoreErrors(sql.withTransaction(
        sql`select ${agent.apiKey}::text, pg_terminate_backend(pg_backend_pid())`
      )))
      assert.isTrue(Exit.isFailure(exit))
      yield* Effect.logError("the statement failed", Exit.isFailure(exit) ? exit.cause : "").pipe(Effect.provide(quiet))
    }))
})

describe("a secret in an unexpected place", () => {
  it.live("a secret in an unexpected place appears in no response to a client", () =>
    Effect.gen(function*() {
      const server = yield* makeServer()
      const { apiKey } = yield* server.newAgent
      yield* sendUpgrade(server.wsPort, {}, `/?apiKey=${apiKey}&type=${apiKey}`)
      yield* sendUpgrade(server.wsPort, { "Sec-WebSocket-Protocol": apiKey, Authorization: `Bearer ${apiKey}` })
      yield* sendUpgrade(server.wsPort, { Origin: `https://${apiKey}`, Host: apiKey })
      yield* sendGet(server.wsPort, `/${apiKey}`)
      yield* sendRequest(server.wsPort, `${apiKey} / HTTP/1.1`, "", "")
      const auth = { type: "auth", data: { apiKey } }
      for (
        const message of [
          `{"type":"auth","data":{"apiKey":"${apiKey}"`,
          apiKey,
          { type: apiKey },
          { type: "auth", apiKey },
          { type: "auth", data: apiKey },
          { type: "auth", data: { apiKey: [apiKey], [apiKey]: 1 } },
          { type: "auth", data: { apiKey: `${apiKey}x`, publicIp: apiKey } },
          { type: "auth", data: { apiKey, publicIp: apiKey } },
          { type: "auth", data: { apiKey, padding: apiKey.repeat(5000) } }
        ]
      ) {
        for (const protocols of [[], ["control.v1"]]) {
          const client = yield* connect(server.wsPort, "?type=agent", { protocols })
          client.send(message)
          client.send(auth)
          client.send({ type: apiKey, data: { status: apiKey } })
          client.ws.close()
          yield* client.closed
        }
      }
    }))

  it.live("a secret in an unexpected place appears in no response to an operator, and in no document, list and metric", () =>
    Effect.gen(function*() {
      const server = yield* makeServer()
      const { apiKey, id } = yield* server.newAgent
      const { certificate, privateKey } = issueCertificate({ names: ["app.example.com"] })
      const { privateKey: foreign } = issueCertificate({ names: ["app.example.com"] })
      const asWrong = api(server.apiUrl, apiKey)
      const { operator } = server
      const broken = [
        foreign,
        privateKey.slice(0, -40),
        `${privateKey}${foreign}`,
        privateKey.replaceAll("PRIVATE", "PUBLIC")
      ]
      yield* Effect.promise(async () => {
        await asWrong.get("/api/agents")
        await api(server.apiUrl).get(`/api/agents?token=${adminToken}`, { cookie: `token=${adminToken}` })
        await operator.get(`/api/agents?cursor=${apiKey}&${adminToken}=1`)
        await operator.get(`/api/agents/${adminToken}`)
        await operator.post("/api/agents", `{"name":"x","apiKey":"${apiKey}"`)
        await operator.post("/api/agents", { name: { [apiKey]: apiKey }, apiKey, [apiKey]: apiKey })
        await operator.post("/api/agents", `"${apiKey.repeat(20_000)}"`)
        for (const bad of broken) {
          await operator.put("/api/certificates/app.example.com", { certificate, privateKey: bad })
          await operator.put("/api/certificates/app.example.com", { certificate: bad, privateKey })
          await operator.put(`/api/certificates/app.example.com`, `{"privateKey":${JSON.stringify(bad)}`)
        }
        const put = await operator.put("/api/certificates/app.example.com", { certificate, privateKey })
        assert.strictEqual(put.status, 200, JSON.stringify(put.body))
        await operator.delete(`/api/agents/${id}/keys/${apiKey}`)
      })
      yield* join(server.wsPort, "agent", apiKey)
      yield* server.joinGateway("203.0.113.9")
      const readable = [
        "/metrics",
        "/openapi.json",
        "/docs",
        "/api/audit",
        "/api/clients",
        "/api/network",
        "/api/doctor"
      ]
      const lists = ["/api/agents", "/api/gateways", "/api/certificates", "/healthz", "/readyz"]
      for (const path of [...readable, ...lists]) yield* Effect.promise(() => operator.get(path))
    }))

  it.live("a secret of a damaged row appears in no response", () =>
    Effect.gen(function*() {
      const server = yield* makeServer()
      const agent = yield* server.newAgent
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const stored = `v1.${randomBytes(24).toString("hex")}`
      secretScanner.addSecret("WireGuard private key", stored)
      yield* sql`update agents set wireguard_private_key = ${stored}`
      yield* Effect.exit(Context.get(server.context, Network).catchUp)
      for (const path of ["/api/agents", `/api/agents/${agent.id}`, "/api/network", "/api/doctor"]) {
        yield* Effect.promise(() => server.operator.get(path))
      }
    }))

  it.effect("a secret does not appear in the error about a setting", () =>
    Effect.gen(function*() {
      const [token, master] = [Redacted.value(mintApiKey("admin").apiKey), randomBytes(32).toString("base64")]
      const { privateKey } = issueCertificate({ names: [] })
      const url = `postgres://control:${randomBytes(16).toString("hex")}@db/control`
      const scanner = new SecretScanner()
      scanner.addSecret("admin token", token)
      scanner.addSecret("master key", master)
      scanner.addSecret("private key of a certificate", privateKey)
      scanner.addSecret("database password", url.slice(19, 51))
      const names = [
        "CONTROL_WS_PORT",
        "CONTROL_ADMIN_TOKEN_FILE",
        "DATABASE_URL_FILE",
        "CONTROL_LOG_LEVEL",
        "CONTROL_WS_HOST"
      ]
      for (const name of [...names, "CONTROL_MASTER_KEY_FILE", "CONTROL_NETWORK_POOL", "CONTROL_ALLOWED_ORIGINS"]) {
        for (const secret of [token, master, privateKey, url]) {
          const error = yield* Effect.flip(readSettings({ [name]: secret }, false))
          scanner.addOutput(text(name, "the message"), `${error.message}${JSON.stringify(error)}`)
        }
      }
      for (const name of ["CONTROL_DATA_DIR", "CONTROL_TLS_PRIVATE_KEY"]) {
        for (const secret of [privateKey, url]) {
          const error = yield* Effect.flip(readSettings({ [name]: secret }, false))
          scanner.addOutput(text(name, "the message"), `${error.message}${JSON.stringify(error)}`)
        }
      }
      assert.deepStrictEqual(scanner.findLeaks(), [])
      const plain = yield* Effect.flip(
        readSettings({ CONTROL_WS_PORT: "70000", CONTROL_MASTER_KEY_FILE: "/run/secrets/none" })
      )
      assert.deepStrictEqual(plain.problems.map(({ given }) => given), ["70000", "/run/secrets/none"])
    }))
})
