/** Pure: whether a failed connection or statement at the start can succeed later, and a remedy for the operator. */
import type { SqlError } from "effect/sql"

/** A remedy for a failure that waiting does not solve; undefined if it is worth waiting. */
export const remedyFor = ({ reason }: SqlError.SqlError): string | undefined => {
  const { code, message } = causeOf(reason.cause)
  const found = remedies.find(({ matches }) => matches.test(code === "" ? message : `${code} ${message}`))
  if (found !== undefined) return found.remedy
  return code === "" && reason._tag === "AuthenticationError" ? checkPassword : undefined
}

/** The words of PostgreSQL, TLS or the operating system about a failed connection, which never quote rows. */
export const causeOf = (cause: unknown): { readonly code: string; readonly message: string } => {
  if (!(cause instanceof Error)) return { code: "", message: "" }
  const code = "code" in cause && typeof cause.code === "string" ? cause.code : ""
  const inner: unknown = cause instanceof AggregateError ? cause.errors[0] : undefined
  return { code, message: cause.message === "" && inner instanceof Error ? inner.message : cause.message }
}

const checkPassword =
  "check the user and the password in DATABASE_URL, where special characters are percent-encoded, for example %25 for %"

/** Matched in order with "SQLSTATE message". pgbouncer has one SQLSTATE, 08P01, for all its messages. */
const remedies: ReadonlyArray<{ readonly matches: RegExp; readonly remedy: string }> = [
  { matches: /^28P01/u, remedy: checkPassword },
  {
    matches: /^28000 .*no pg_hba\.conf entry/u,
    remedy:
      "allow the connection in pg_hba.conf of the database server, or change the user, host or sslmode in DATABASE_URL"
  },
  { matches: /^28000/u, remedy: "create the role, or change the user in DATABASE_URL" },
  { matches: /^3D000/u, remedy: "create the database, or change its name in DATABASE_URL" },
  { matches: /^42501/u, remedy: "grant it: GRANT CREATE, USAGE ON SCHEMA public TO the user of DATABASE_URL" },
  {
    matches: /^08P01 unsupported startup parameter/u,
    remedy: "remove the parameter from DATABASE_URL, or add it to ignore_startup_parameters of the pooler"
  },
  { matches: /^08P01 .*no such (?:user|database)/u, remedy: "add it to the configuration of the pooler" },
  { matches: /^08P01 .*(?:authentication|SASL)/u, remedy: checkPassword },
  { matches: /statement pooling/u, remedy: "set pool_mode of the pooler to transaction or session" },
  { matches: /^22023|^42704/u, remedy: "correct the parameter options in DATABASE_URL" },
  {
    matches: /does not support TLS/u,
    remedy:
      "switch on ssl on the database server, or set sslmode=disable in DATABASE_URL to send everything unencrypted"
  },
  {
    matches: /^(?:ERR_TLS_CERT|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(?:GET|VERIFY)|HOSTNAME_MISMATCH)/u,
    remedy: "set sslrootcert in DATABASE_URL to the certificate of its CA, and use a host name that the certificate has"
  },
  { matches: /^(?:ERR_SSL|ERR_OSSL)/u, remedy: "check sslcert, sslkey and sslmode in DATABASE_URL" }
]
