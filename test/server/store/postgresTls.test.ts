/** TLS to a real PostgreSQL with `ssl=on`: each `sslmode` as in libpq, never plaintext if TLS was asked for, and SASLprep. */
import { connectPostgres } from "#store/connectPostgres.ts"
import { startEmbeddedPostgres } from "#store/postgres/EmbeddedPostgres.ts"
import { issueCertificate } from "#support/certificates.ts"
import { execute } from "#support/templateDatabase.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { PgConnection } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer, Redacted } from "effect"
import { chmodSync, chownSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { freePort } from "#support/freePort.ts"

interface TlsServer {
  readonly port: number
  readonly certificate: string
  /** URL of its Unix socket, for a superuser. */
  readonly socketUrl: string
}

/** Reloads the configuration, and waits until new sessions have it. */
const reload = (url: string, ssl: string) =>
  Effect.andThen(
    execute(url, "select pg_reload_conf()"),
    Effect.repeat(execute(url, "show ssl"), { until: (rows) => JSON.stringify(rows) === JSON.stringify([{ ssl }]) })
  )

class Server extends Context.Service<Server, TlsServer>()("test/TlsServer") {
  /** A server with a self-signed certificate for `localhost`, and SCRAM over TCP. */
  static readonly layer = Layer.effect(
    Server,
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const files = yield* temporaryDirectory
      const [key, certificate] = [join(files, "server.key"), join(files, "server.crt")]
      const issued = issueCertificate({ names: ["localhost"], isAuthority: true })
      writeFileSync(key, issued.privateKey)
      writeFileSync(certificate, issued.certificate)
      const port = yield* Effect.promise(() => freePort())
      const options = { dataDir, settings: { fsync: "off" } }
      // The first start creates the cluster, whose owner must own the key.
      yield* Effect.scoped(startEmbeddedPostgres(options))
      const { gid, uid } = statSync(join(dataDir, "postgres"))
      chmodSync(files, 0o755)
      chmodSync(key, 0o600)
      chownSync(key, uid, gid)
      const rules = join(files, "pg_hba.conf")
      writeFileSync(rules, "local all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
      const { url } = yield* startEmbeddedPostgres({
        ...options,
        settings: {
          ...options.settings,
          hba_file: rules,
          ssl_key_file: key,
          ssl_cert_file: certificate,
          listen_addresses: "127.0.0.1",
          port: `${port}`
        }
      })
      const socketUrl = `${Redacted.value(url)}&port=${port}`
      yield* execute(socketUrl, "create role fish login password 'ﬁsh²'")
      yield* execute(socketUrl, "alter system set ssl = on")
      yield* reload(socketUrl, "on")
      return Server.of({ port, certificate, socketUrl })
    })
  )
}

const connect = (server: TlsServer, parameters: string, variables = {}, host = "localhost") =>
  connectPostgres(
    `postgres://fish:${encodeURIComponent("ﬁsh²")}@${host}:${server.port}/control?${parameters}`,
    variables,
    "DATABASE_URL"
  )

const isEncrypted = (config: PgConnection.Config) =>
  Effect.scoped(Effect.flatMap(PgConnection.make(config), (connection) =>
    Effect.map(
      connection.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()"),
      ({ rows }) => rows[0]?.["ssl"] === true
    )))

layer(Server.layer, { timeout: 60_000 })("TLS to PostgreSQL", (it) => {
  it.effect("every mode but disable encrypts, and verifies what libpq verifies; the password is prepared by SASLprep", () =>
    Effect.gen(function*() {
      const server = yield* Server
      const root = `sslrootcert=${encodeURIComponent(server.certificate)}`
      const working: ReadonlyArray<readonly [string, Record<string, string>, string]> = [
        ["", {}, "localhost"],
        ["sslmode=allow", {}, "localhost"],
        ["ssl=true", {}, "127.0.0.1"],
        ["sslmode=require", {}, "127.0.0.1"],
        ["", { PGSSLMODE: "require" }, "127.0.0.1"],
        [`sslmode=verify-ca&${root}`, {}, "127.0.0.1"],
        ["", { PGSSLMODE: "verify-full", PGSSLROOTCERT: server.certificate }, "localhost"],
        [`sslmode=verify-full&hostaddr=127.0.0.1&${root}`, {}, "localhost"]
      ]
      for (const [parameters, variables, host] of working) {
        const { config } = yield* connect(server, parameters, variables, host)
        assert.isTrue(yield* isEncrypted(config), `${parameters} ${JSON.stringify(variables)}`)
      }
    }))

  it.effect("a certificate that cannot be verified, a missing file and forbidden plaintext fail at once with the remedy", () =>
    Effect.gen(function*() {
      const server = yield* Server
      const root = `sslrootcert=${encodeURIComponent(server.certificate)}`
      const failing: ReadonlyArray<readonly [string, string, string]> = [
        ["sslmode=verify-ca", "localhost", "set sslrootcert in DATABASE_URL"],
        [`sslmode=verify-full&${root}`, "127.0.0.1", "use a host name that the certificate has"],
        ["sslmode=verify-full&sslrootcert=/missing.crt", "localhost", "cannot read sslrootcert /missing.crt"],
        ["sslmode=disable", "localhost", "allow the connection in pg_hba.conf"]
      ]
      for (const [parameters, host, reason] of failing) {
        const error = yield* Effect.flip(connect(server, parameters, {}, host))
        assert.isTrue(error.isFinal, error.reason)
        assert.include(error.reason, reason)
      }
      const wrong = yield* Effect.flip(
        connectPostgres(`postgres://fish:wrong@localhost:${server.port}/control`, {}, "DATABASE_URL")
      )
      assert.include(wrong.reason, "password authentication failed for user \"fish\" (SQLSTATE 28P01); check the user")
    }))

  it.effect("a server without TLS is refused if TLS was asked for", () =>
    Effect.gen(function*() {
      const server = yield* Server
      yield* execute(server.socketUrl, "alter system set ssl = off")
      yield* reload(server.socketUrl, "off")
      for (const parameters of ["ssl=true", "sslmode=require", "sslmode=verify-full"]) {
        const error = yield* Effect.flip(connect(server, parameters))
        assert.isTrue(error.isFinal)
        assert.include(error.reason, "server does not support TLS")
      }
    }))
})
