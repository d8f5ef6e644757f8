/** Configurations of the driver for one connection to PostgreSQL: TLS, password, and parameters of the session. */
import type { PostgresTarget } from "#server/Settings.ts"
import type { PgConnection } from "@effect/sql-pg"
import { saslprep } from "@mongodb-js/saslprep"
import { Duration, Effect, Redacted, Schema } from "effect"
import { readFileSync } from "node:fs"
import { checkServerIdentity, type ConnectionOptions, getCACertificates } from "node:tls"
import { sessionTimeouts } from "./sessionTimeouts.ts"

/** A file of the connection's TLS parameters cannot be read. */
export class TlsFileUnreadable extends Schema.TaggedError<TlsFileUnreadable>()("TlsFileUnreadable", {
  parameter: Schema.String,
  path: Schema.String,
  code: Schema.String
}) {
  override get message(): string {
    return `cannot read ${this.parameter} ${this.path} of the database connection: ${this.code}`
  }
}

/** Session parameters that every pooler accepts at the start of a connection, because it tracks them itself. */
const trackedParameters = {
  client_encoding: "UTF8",
  datestyle: "ISO, MDY",
  timezone: "UTC",
  standard_conforming_strings: "on"
}

/** The isolation that the code relies upon, which a role or database can change. */
const isolation = { default_transaction_isolation: "read committed", default_transaction_deferrable: "off" }

/**
 * Parameters for a connection without a pooler. Limits of the role or database on idle sessions and whole transactions would
 * end the connection that listens, and long readings. `version` is PostgreSQL's `server_version_num`.
 */
export const sessionParametersOf = (version: number) => ({
  ...trackedParameters,
  intervalstyle: "postgres",
  ...isolation,
  ...sessionTimeouts,
  idle_session_timeout: "0",
  ...version < 170_000 ? {} : { transaction_timeout: "0" }
})

/**
 * The configurations to try in this order, as libpq does: `prefer` tries plaintext only after TLS, `allow` only before it. The
 * last ones have the password without SASLprep, which MD5 and plaintext authentication need.
 */
export const candidateConfigs = (target: PostgresTarget): Effect.Effect<Candidates, TlsFileUnreadable> =>
  Effect.map(tlsCandidates(target), ([first, ...others]) => {
    const config = (ssl: boolean | ConnectionOptions, password: string | undefined): PgConnection.Config => ({
      host: target.address ?? target.host,
      port: target.port,
      ssl,
      database: target.database,
      username: target.user,
      password: password === undefined ? undefined : Redacted.make(password),
      connectTimeout: Duration.seconds(target.connectTimeoutSeconds),
      keepAlive: target.keepAliveSeconds === undefined ? undefined : Duration.seconds(target.keepAliveSeconds),
      applicationName: target.applicationName,
      startupOptions: target.options,
      startupParameters: trackedParameters
    })
    const [prepared, ...unprepared] = passwordForms(target.password)
    return [
      config(first, prepared),
      ...others.map((ssl) => config(ssl, prepared)),
      ...unprepared.flatMap((password) => [first, ...others].map((ssl) => config(ssl, password)))
    ]
  })

type Candidates = readonly [PgConnection.Config, ...ReadonlyArray<PgConnection.Config>]

/** SCRAM hashes the password after SASLprep (RFC 4013), as PostgreSQL does. A password that it prohibits stays unchanged. */
function passwordForms(password: string | undefined): ReadonlyArray<string | undefined> {
  if (password === undefined) return [undefined]
  try {
    return [...new Set([saslprep(password), password])]
  } catch {
    return [password]
  }
}

const tlsCandidates = (
  { address, host, tls }: PostgresTarget
): Effect.Effect<
  readonly [boolean | ConnectionOptions, ...ReadonlyArray<boolean | ConnectionOptions>],
  TlsFileUnreadable
> =>
  Effect.gen(function*() {
    // As in libpq, a Unix socket has no TLS.
    if (tls.mode === "disable" || (address ?? host).startsWith("/")) return [false] as const
    const roots = tls.rootCertificate === "system"
      ? getCACertificates("system")
      : yield* readFile("sslrootcert", tls.rootCertificate)
    const [cert, key, crl] = yield* Effect.all([
      readFile("sslcert", tls.certificate),
      readFile("sslkey", tls.key),
      readFile("sslcrl", tls.revocationList)
    ])
    const verifies = tls.mode === "verify-ca" || tls.mode === "verify-full"
    const options: ConnectionOptions = {
      // The server name for SNI and the certificate is `host` also if the connection goes to `hostaddr`.
      host,
      ...(tls.sendsName ? {} : { servername: "" }),
      rejectUnauthorized: verifies,
      checkServerIdentity: (_, certificate) =>
        tls.mode === "verify-full" ? checkServerIdentity(host, certificate) : undefined,
      ...(roots === undefined ? {} : { ca: roots }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      ...(crl === undefined ? {} : { crl }),
      ...(tls.keyPassword === undefined ? {} : { passphrase: tls.keyPassword }),
      ...(tls.minVersion === undefined ? {} : { minVersion: tls.minVersion }),
      ...(tls.maxVersion === undefined ? {} : { maxVersion: tls.maxVersion })
    }
    if (tls.mode === "allow") return [false, options] as const
    return tls.mode === "prefer" ? [options, false] as const : [options] as const
  })

const readFile = (parameter: string, path: string | undefined) =>
  Effect.try({
    try: () => path === undefined ? undefined : readFileSync(path, "utf8"),
    catch: (error) =>
      new TlsFileUnreadable({
        parameter,
        path: path ?? "",
        code: (error as NodeJS.ErrnoException).code ?? "unreadable"
      })
  })
