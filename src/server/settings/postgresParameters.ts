/** Parameters of a PostgreSQL connection: the names and values of libpq that Control honors, and why it rejects the others. */
import { isIP } from "node:net"

/** A parameter of `DATABASE_URL`, or libpq's variable of the same meaning. */
interface Parameter {
  readonly variable?: string
  /** Completes the sentence "NAME must be …". */
  readonly allowed: string
  readonly accepts: (value: string) => boolean
}

const anyText = (variable?: string): Parameter => parameter("any text", () => true, variable)

const oneOf = (values: ReadonlyArray<string>, variable?: string, note = ""): Parameter =>
  parameter(
    `${values.length === 1 ? "" : "one of "}${values.join(", ")}${note}`,
    (value) => values.includes(value),
    variable
  )

const wholeNumber = (minimum: number, maximum: number, variable?: string): Parameter =>
  parameter(
    `a whole number from ${minimum} to ${maximum}`,
    (value) => /^\d{1,9}$/u.test(value) && Number(value) >= minimum && Number(value) <= maximum,
    variable
  )

const unsupported = (reason: string, variable?: string): Parameter =>
  parameter(`removed, because ${reason}`, () => false, variable)

function parameter(allowed: string, accepts: (value: string) => boolean, variable: string | undefined): Parameter {
  return { allowed, accepts, ...(variable === undefined ? {} : { variable }) }
}

/** The values of `sslmode`, with the meanings of libpq. */
export const sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const
export type SslMode = (typeof sslModes)[number]

export const tlsVersions = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] as const

const noOauth = "Control does not support OAuth"
const noScramKey = "Control computes the keys of SCRAM from the password"
const noKerberos = "Control does not support Kerberos"
const setsItself = (name: string) => `Control sets ${name} of its connections`

/** The parameters of libpq, and `ssl` of other drivers. A name that is not here is rejected as unknown. */
export const parameters: Readonly<Record<string, Parameter>> = {
  host: parameter(
    "one host name, IP address or directory of a Unix socket; for several servers use a name or proxy that follows the primary",
    (value) => !/[,@]/u.test(value),
    "PGHOST"
  ),
  hostaddr: parameter("one IP address", (value) => isIP(value) !== 0, "PGHOSTADDR"),
  port: wholeNumber(1, 65_535, "PGPORT"),
  dbname: anyText("PGDATABASE"),
  user: anyText("PGUSER"),
  password: anyText("PGPASSWORD"),
  application_name: anyText("PGAPPNAME"),
  fallback_application_name: anyText(),
  options: anyText("PGOPTIONS"),
  connect_timeout: wholeNumber(1, 600, "PGCONNECT_TIMEOUT"),
  client_encoding: parameter(
    "UTF8 or auto, because Control uses UTF-8",
    (value) => /^(?:utf-?8|auto)$/iu.test(value),
    "PGCLIENTENCODING"
  ),
  target_session_attrs: oneOf(
    ["any", "read-write", "primary"],
    "PGTARGETSESSIONATTRS",
    ", because Control writes to the database"
  ),
  load_balance_hosts: oneOf(["disable", "random"], "PGLOADBALANCEHOSTS"),
  keepalives: oneOf(["0", "1"]),
  keepalives_idle: wholeNumber(0, 86_400),
  keepalives_interval: oneOf(["0"], undefined, ", because only the system can set the interval"),
  keepalives_count: oneOf(["0"], undefined, ", because only the system can set the count"),
  tcp_user_timeout: oneOf(["0"], undefined, ", because Control does not set this timeout"),
  replication: oneOf(["false", "off", "no", "0"]),
  ssl: oneOf(["true", "false", "1", "0"]),
  sslmode: oneOf(sslModes, "PGSSLMODE"),
  requiressl: oneOf(["0", "1"], "PGREQUIRESSL"),
  sslrootcert: anyText("PGSSLROOTCERT"),
  sslcert: anyText("PGSSLCERT"),
  sslkey: anyText("PGSSLKEY"),
  sslpassword: anyText(),
  sslcrl: anyText("PGSSLCRL"),
  sslsni: oneOf(["0", "1"], "PGSSLSNI"),
  ssl_min_protocol_version: oneOf(tlsVersions, "PGSSLMINPROTOCOLVERSION"),
  ssl_max_protocol_version: oneOf(tlsVersions, "PGSSLMAXPROTOCOLVERSION"),
  sslnegotiation: oneOf(["postgres"], "PGSSLNEGOTIATION"),
  sslcompression: oneOf(["0"], "PGSSLCOMPRESSION"),
  sslcertmode: oneOf(["allow"], "PGSSLCERTMODE"),
  sslcrldir: unsupported("Control reads no directory of revocation lists; set sslcrl", "PGSSLCRLDIR"),
  channel_binding: oneOf(
    ["disable", "prefer"],
    "PGCHANNELBINDING",
    ", because Control does not support channel binding; use sslmode=verify-full"
  ),
  require_auth: unsupported("Control cannot restrict the method; use sslmode=verify-full", "PGREQUIREAUTH"),
  requirepeer: unsupported("Control cannot check the owner of a Unix socket", "PGREQUIREPEER"),
  sslkeylogfile: unsupported("Control writes no keys of TLS to a file", "PGSSLKEYLOGFILE"),
  scram_client_key: unsupported(noScramKey),
  scram_server_key: unsupported(noScramKey),
  oauth_issuer: unsupported(noOauth),
  oauth_client_id: unsupported(noOauth),
  oauth_client_secret: unsupported(noOauth),
  oauth_scope: unsupported(noOauth),
  passfile: unsupported("Control reads no password file; set DATABASE_URL_FILE or PGPASSWORD", "PGPASSFILE"),
  service: unsupported("Control reads no service file; set DATABASE_URL", "PGSERVICE"),
  servicefile: unsupported("Control reads no service file; set DATABASE_URL", "PGSERVICEFILE"),
  gssencmode: oneOf(["disable", "prefer"], "PGGSSENCMODE", `, because ${noKerberos}`),
  krbsrvname: unsupported(noKerberos, "PGKRBSRVNAME"),
  gsslib: unsupported(noKerberos, "PGGSSLIB"),
  gssdelegation: oneOf(["0"], "PGGSSDELEGATION", `, because ${noKerberos}`),
  min_protocol_version: oneOf(["3.0"], "PGMINPROTOCOLVERSION", ", because Control uses protocol 3.0"),
  max_protocol_version: oneOf(["3.0", "3.2", "latest"], "PGMAXPROTOCOLVERSION"),
  datestyle: unsupported(setsItself("DateStyle"), "PGDATESTYLE"),
  timezone: unsupported(setsItself("TimeZone"), "PGTZ"),
  geqo: unsupported("only the parameter options can set it: options=-c geqo=off", "PGGEQO")
}
