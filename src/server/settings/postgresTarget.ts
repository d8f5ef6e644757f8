/** Reads `DATABASE_URL` and libpq's variables (`PGSSLMODE`, …) as one connection. Honors or rejects each parameter. */
import { Result } from "effect"
import { looksSecret } from "./looksSecret.ts"
import { parameters, type SslMode, sslModes, tlsVersions } from "./postgresParameters.ts"

/** A connection to PostgreSQL, with the defaults of libpq where a parameter is unset. */
export interface PostgresTarget {
  /** A host name, an IP address, or the directory of a Unix socket. */
  readonly host: string
  /** The address to connect to in place of `host`, which TLS still verifies. */
  readonly address: string | undefined
  readonly port: number
  readonly database: string | undefined
  readonly user: string | undefined
  readonly password: string | undefined
  readonly applicationName: string
  readonly options: string | undefined
  readonly connectTimeoutSeconds: number
  /** Undefined: no TCP keepalive. */
  readonly keepAliveSeconds: number | undefined
  readonly tls: {
    readonly mode: SslMode
    /** A path, or `system`. */
    readonly rootCertificate: string | undefined
    readonly certificate: string | undefined
    readonly key: string | undefined
    readonly keyPassword: string | undefined
    readonly revocationList: string | undefined
    readonly sendsName: boolean
    readonly minVersion: TlsVersion | undefined
    readonly maxVersion: TlsVersion | undefined
  }
}

type TlsVersion = (typeof tlsVersions)[number]

/** Has the form of a `SettingProblem`. */
export interface ParameterProblem {
  readonly name: string
  readonly given?: string
  readonly allowed: string
}

/** A parameter and the name under which it was given, for errors. */
interface Given {
  readonly key: string
  readonly value: string
  readonly name: string
}

type Variables = Readonly<Record<string, string | undefined>>

/** The variables of libpq that Control reads. */
export const postgresVariables: ReadonlyArray<string> = Object.values(parameters).flatMap(({ variable }) =>
  variable ?? []
)

/** `urlName` is the name of the setting, for errors. A parameter of the URL takes precedence over its variable. */
export const readPostgresTarget = (
  url: string,
  variables: Variables,
  urlName: string
): Result.Result<PostgresTarget, ReadonlyArray<ParameterProblem>> => {
  const inUrl = readUrl(url, urlName)
  if (Result.isFailure(inUrl)) return Result.fail([inUrl.failure])
  const named = new Set(inUrl.success.map(({ key }) => key))
  const isTlsNamed = tlsKeys.some((key) => named.has(key))
  const inVariables = Object.entries(parameters).flatMap(([key, { variable }]): ReadonlyArray<Given> => {
    const value = variable === undefined ? undefined : variables[variable]
    const isOverridden = named.has(key) || (isTlsNamed && tlsKeys.includes(key))
    return variable === undefined || value === undefined || value === "" || isOverridden
      ? []
      : [{ key, value, name: variable }]
  })
  const given = [...inUrl.success, ...inVariables]
  const problems = [...given.flatMap(problemOf), ...contradictions(given)]
  return problems.length > 0 ? Result.fail(problems) : Result.succeed(targetOf(given))
}

/** Variables that name a server, which the embedded database would silently ignore. */
export const problemsWithoutUrl = (variables: Variables, urlName: string): ReadonlyArray<ParameterProblem> =>
  ["PGHOST", "PGHOSTADDR", "PGSERVICE"].filter((name) => (variables[name] ?? "") !== "").map((name) => ({
    name,
    allowed: `unset if ${urlName} is unset; to use the server of ${name}, set ${urlName}=postgres://`
  }))

/** Parameters that decide whether TLS is used. */
const tlsKeys = ["ssl", "sslmode", "requiressl"]

function readUrl(text: string, urlName: string): Result.Result<ReadonlyArray<Given>, ParameterProblem> {
  const invalid = (allowed: string) => Result.fail({ name: urlName, allowed })
  const isOneServer = !/^[^?]*[^/?@,]*,[^/?@]*(?:[/?]|$)/u.test(text.replace(/^\w+:\/\/(?:[^/?]*@)?/u, ""))
  if (!isOneServer) return invalid(`a URL with ${parameters["host"]?.allowed ?? ""}`)
  if (!URL.canParse(text) || new URL(text).hash !== "") {
    return invalid("a URL such as postgres://user:password@host:5432/database, with %23 for #, %2F for / and %3F for ?")
  }
  const url = new URL(text)
  const parts: ReadonlyArray<readonly [string, string]> = [
    ["host", url.hostname.replace(/^\[(.*)\]$/u, "$1")],
    ["port", url.port],
    ["user", url.username],
    ["password", url.password],
    ["dbname", url.pathname.replace(/^\//u, "")],
    ...url.search.slice(1).split("&").map((pair) => {
      const [key = "", ...value] = pair.split("=")
      return [key, value.join("=")] as const
    })
  ]
  const given = new Map<string, Given>()
  for (const [rawKey, rawValue] of parts) {
    if (rawValue === "") continue
    const key = decode(rawKey)
    const value = decode(rawValue)
    if (key === undefined || value === undefined)
      return invalid(`a URL with %25 for % in its ${key === undefined ? "parameters" : partNames[key] ?? key}`)
    given.set(key, { key, value, name: `parameter ${key} of ${urlName}` })
  }
  return Result.succeed([...given.values()])
}

const partNames: Readonly<Record<string, string>> = { dbname: "database name" }

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

function problemOf({ key, name, value }: Given): ReadonlyArray<ParameterProblem> {
  const parameter = Object.hasOwn(parameters, key) ? parameters[key] : undefined
  if (parameter === undefined)
    return [{ name, allowed: "removed, because PostgreSQL has no such connection parameter" }]
  if (value.includes("\0")) return [{ name, allowed: "without NUL characters" }]
  if (parameter.accepts(value)) return []
  return [{
    name,
    ...(key.includes("password") || looksSecret(value) ? {} : { given: value }),
    allowed: parameter.allowed
  }]
}

/** TLS that one parameter requires and another one forbids. */
function contradictions(given: ReadonlyArray<Given>): ReadonlyArray<ParameterProblem> {
  const mode = given.find(({ key }) => key === "sslmode")
  const switches = given.filter(({ key }) => key === "ssl" || key === "requiressl")
  if (mode === undefined) return []
  return switches.flatMap(({ name, value }) => {
    const allowsPlaintext = ["disable", "allow", "prefer"].includes(mode.value)
    return requiresTls(value) === allowsPlaintext
      ? [{ name, given: value, allowed: `removed, because ${mode.name} is ${mode.value}` }]
      : []
  })
}

const requiresTls = (value: string): boolean => value === "true" || value === "1"

function targetOf(given: ReadonlyArray<Given>): PostgresTarget {
  const values = new Map(given.map(({ key, value }) => [key, value]))
  const idle = Number(values.get("keepalives_idle") ?? 0)
  return {
    host: values.get("host") ?? values.get("hostaddr") ?? "localhost",
    address: values.get("hostaddr"),
    port: Number(values.get("port") ?? 5432),
    database: values.get("dbname"),
    user: values.get("user"),
    password: values.get("password"),
    applicationName: values.get("application_name") ?? values.get("fallback_application_name") ?? "control",
    options: values.get("options"),
    connectTimeoutSeconds: Math.max(2, Number(values.get("connect_timeout") ?? 5)),
    keepAliveSeconds: values.get("keepalives") === "0" ? undefined : idle === 0 ? 15 : idle,
    tls: {
      mode: sslModeOf(values),
      rootCertificate: values.get("sslrootcert"),
      certificate: values.get("sslcert"),
      key: values.get("sslkey"),
      keyPassword: values.get("sslpassword"),
      revocationList: values.get("sslcrl"),
      sendsName: values.get("sslsni") !== "0",
      minVersion: tlsVersions.find((version) => version === values.get("ssl_min_protocol_version")),
      maxVersion: tlsVersions.find((version) => version === values.get("ssl_max_protocol_version"))
    }
  }
}

/** As in libpq, a root certificate makes `require` verify it, and `sslrootcert=system` verifies the name as well. */
function sslModeOf(values: ReadonlyMap<string, string>): SslMode {
  const isSwitchedOn = ["ssl", "requiressl"].some((key) => requiresTls(values.get(key) ?? ""))
  const isSwitchedOff = values.get("ssl") === "false" || values.get("ssl") === "0"
  const rootCertificate = values.get("sslrootcert")
  const named = sslModes.find((mode) => mode === values.get("sslmode"))
  const mode = named ?? (isSwitchedOn ? "require" : isSwitchedOff ? "disable" : undefined)
  if (rootCertificate === "system" && mode !== "disable") return "verify-full"
  if (rootCertificate !== undefined && mode === "require") return "verify-ca"
  return mode ?? "prefer"
}
