/** Settings of a server: read once from the environment and checked together. */
import { isFileExposed } from "#files/isFileExposed.ts"
import { Context, Effect, Layer, Option, Redacted, Result, Schema } from "effect"
import { readFileSync } from "node:fs"
import { conflicts } from "./settings/conflicts.ts"
import { looksSecret } from "./settings/looksSecret.ts"
import { definitions, type PlainSetting, type SecretSetting } from "./settings/definitions.ts"
import { postgresVariables, problemsWithoutUrl, readPostgresTarget } from "./settings/postgresTarget.ts"
import { unknownNames } from "./settings/unknownNames.ts"

export { type PostgresTarget, readPostgresTarget } from "./settings/postgresTarget.ts"
export {
  acceptsRemotePlaintext,
  addressMatcher,
  formatHostPort,
  isLoopback,
  listenOptions,
  requiresProxyHeaderFromLoopback
} from "./settings/addresses.ts"

type ValuesByDefinition = { readonly [Key in keyof typeof definitions]: (typeof definitions)[Key]["fallback"] }

/** The settings by their names in `settings/definitions.ts`. A secret is an `Option<Redacted<string>>`. */
export interface SettingsValues extends ValuesByDefinition {
  /** Variables of libpq such as `PGSSLMODE`, which complete the URLs of the database. */
  readonly postgresVariables: Redacted.Redacted<Environment>
  /** Names of the variables whose file other accounts can read or write. */
  readonly exposedFiles: ReadonlyArray<string>
}

export class Settings extends Context.Service<Settings, SettingsValues>()("control/Settings") {
  /** Reads `process.env`. The error lists every invalid setting. */
  static readonly layer: Layer.Layer<Settings, SettingsInvalid> = Layer.effect(
    Settings,
    Effect.suspend(() => readProcessSettings({}))
  )

  static readonly layerOf = (values: SettingsValues): Layer.Layer<Settings> => Layer.succeed(Settings, values)
}

export const SettingProblem = Schema.Struct({
  name: Schema.String,
  given: Schema.optionalKey(Schema.String).annotate({
    description: "The invalid value; absent if it is a secret, or looks like a secret in the wrong variable."
  }),
  allowed: Schema.String.annotate({ description: "Completion of the sentence `NAME must be …`." })
})
export type SettingProblem = typeof SettingProblem.Type

/** At least one setting is invalid. The message has one line for each of them, and never contains a secret. */
export class SettingsInvalid extends Schema.TaggedError<SettingsInvalid>()("SettingsInvalid", {
  problems: Schema.Array(SettingProblem)
}) {
  override get message(): string {
    return this.problems.map(({ name, given, allowed }) =>
      given === undefined ? `${name} must be ${allowed}` : `${name} is ${JSON.stringify(given)}, but must be ${allowed}`
    ).join("\n")
  }
}

export type Environment = Readonly<Record<string, string | undefined>>

/** The variables of this process. */
export const processEnvironment = (): Environment => process.env

/**
 * Reads the settings from `env`. An empty value counts as unset. A secret can also be in a file, whose path is in
 * `NAME_FILE`. An unknown `CONTROL_…` variable is a problem, because it is probably misspelled. The default of the log
 * format is `pretty` if `isTerminal`, otherwise `json`.
 */
export const readSettings = Effect.fnUntraced(
  function*(env: Environment, isTerminal: boolean = process.stdout.isTTY === true) {
    const problems: Array<SettingProblem> = []
    const plain = <A>(setting: PlainSetting<A>, fallback: A = setting.fallback): A =>
      valueOrProblem(problems, fallback, readPlain(setting, env[setting.name]))
    const secret = (setting: SecretSetting) => valueOrProblem(problems, setting.fallback, readSecret(setting, env))

    const values: SettingsValues = {
      wsHost: plain(definitions.wsHost),
      wsPort: plain(definitions.wsPort),
      publicUrl: plain(definitions.publicUrl),
      apiHost: plain(definitions.apiHost),
      apiPort: plain(definitions.apiPort),
      tlsCertificate: plain(definitions.tlsCertificate),
      tlsPrivateKey: plain(definitions.tlsPrivateKey),
      requireTls: plain(definitions.requireTls),
      trustedProxies: plain(definitions.trustedProxies),
      proxyProtocol: plain(definitions.proxyProtocol),
      allowedHosts: plain(definitions.allowedHosts),
      allowedOrigins: plain(definitions.allowedOrigins),
      databaseUrl: secret(definitions.databaseUrl),
      listenUrl: secret(definitions.listenUrl),
      postgresVariables: Redacted.make(
        Object.fromEntries(
          postgresVariables.map((name) => [name, env[name]]).filter(([, value]) => value !== undefined)
        )
      ),
      exposedFiles: exposedFiles(env),
      nodeName: plain(definitions.nodeName),
      dataDir: plain(definitions.dataDir),
      adminToken: secret(definitions.adminToken),
      masterKey: secret(definitions.masterKey),
      oldMasterKeys: secret(definitions.oldMasterKeys),
      heartbeatInterval: plain(definitions.heartbeatInterval),
      heartbeatTimeout: plain(definitions.heartbeatTimeout),
      authTimeout: plain(definitions.authTimeout),
      drainTimeout: plain(definitions.drainTimeout),
      auditRetention: plain(definitions.auditRetention),
      maxMessageBytes: plain(definitions.maxMessageBytes),
      maxMessagesPerSecond: plain(definitions.maxMessagesPerSecond),
      maxBytesPerSecond: plain(definitions.maxBytesPerSecond),
      maxConnections: plain(definitions.maxConnections),
      maxUnauthenticated: plain(definitions.maxUnauthenticated),
      maxUnauthenticatedPerIp: plain(definitions.maxUnauthenticatedPerIp),
      mtu: plain(definitions.mtu),
      networkPool: plain(definitions.networkPool),
      logLevel: plain(definitions.logLevel),
      logFormat: plain(definitions.logFormat, isTerminal ? "pretty" : "json")
    }
    // A conflict with an invalid value would be a second complaint about the same setting.
    const invalidNames = new Set(problems.map(({ name }) => name))
    problems.push(
      ...conflicts(values).filter(({ between }) => !between.some(({ name }) => invalidNames.has(name)))
        .map(({ problem }) => problem),
      ...postgresProblems(values, invalidNames.has(definitions.databaseUrl.name)),
      ...unknownNames(env).map(({ name, nearest }) => ({
        name,
        allowed: `removed, because there is no such setting${nearest === undefined ? "" : `; did you mean ${nearest}?`}`
      }))
    )
    return problems.length === 0 ? values : yield* new SettingsInvalid({ problems })
  }
)

/** Parameters of the database's URLs, and variables of libpq, that cannot be honored. */
const postgresProblems = (values: SettingsValues, isUrlInvalid: boolean): ReadonlyArray<SettingProblem> => {
  const variables = Redacted.value(values.postgresVariables)
  const urls = [[definitions.databaseUrl, values.databaseUrl], [definitions.listenUrl, values.listenUrl]] as const
  const problems = urls.flatMap(([{ name }, url]) => {
    if (Option.isNone(url)) return []
    const target = readPostgresTarget(Redacted.value(url.value), variables, name)
    return Result.isFailure(target) ? target.failure : []
  })
  const isEmbedded = Option.isNone(values.databaseUrl) && !isUrlInvalid
  return [...problems, ...isEmbedded ? problemsWithoutUrl(variables, definitions.databaseUrl.name) : []]
}

/** `readSettings` of this process's environment. Variables in `overrides` take precedence. */
export const readProcessSettings = (overrides: Environment) =>
  Effect.suspend(() => readSettings({ ...process.env, ...overrides }))

/** Returns the value. For an invalid value adds the problem and returns `fallback`, so that reading continues. */
const valueOrProblem = <A>(
  problems: Array<SettingProblem>,
  fallback: A,
  read: Option.Option<A> | SettingProblem
): A => {
  if (Option.isOption(read)) return Option.getOrElse(read, () => fallback)
  problems.push(read)
  return fallback
}

const readPlain = <A>(setting: PlainSetting<A>, given: string | undefined): Option.Option<A> | SettingProblem => {
  if (given === undefined || given === "") return Option.none()
  const value = setting.parse(given)
  return Option.isSome(value) ? value : invalidValue(setting.name, given, setting.allowed)
}

const invalidValue = (name: string, given: string, allowed: string): SettingProblem =>
  looksSecret(given) ? { name, allowed } : { name, given, allowed }

/** `Some(Some(secret))` if the secret is set, `None` if it is unset. */
const readSecret = (
  setting: SecretSetting,
  env: Environment
): Option.Option<SecretSetting["fallback"]> | SettingProblem => {
  const { name, allowed } = setting
  const fileName = `${name}_FILE`
  const direct = env[name] ?? ""
  const file = env[fileName] ?? ""
  if (direct === "" && file === "") return Option.none()
  if (direct !== "" && file !== "")
    return { name, allowed: `unset if ${fileName} is set; set only one of the two` }

  const text = file === "" ? direct : readSecretFile(file)
  if (text === undefined)
    return invalidValue(fileName, file, "the path of a file that this process can read")
  return setting.parse(text).pipe(
    Option.match({
      onNone: () =>
        file === "" ? { name, allowed } : invalidValue(fileName, file, `the path of a file that contains ${allowed}`),
      onSome: (value) => Option.some(Option.some(Redacted.make(value, { label: name })))
    })
  )
}

const readSecretFile = (path: string): string | undefined => {
  try {
    return readFileSync(path, "utf8").replace(/\r?\n$/u, "")
  } catch {
    return undefined
  }
}

/** Names of the `…_FILE` variables in `env` whose file other accounts can read or write. */
export const exposedFiles = (env: Environment): ReadonlyArray<string> =>
  Object.values(definitions).filter(({ kind }) => kind === "secret").map(({ name }) => `${name}_FILE`).filter(
    (name) => {
      const path = env[name] ?? ""
      return path !== "" && isFileExposed(path)
    }
  )

/** A log line about a file that other accounts can access. `name`: the variable with its path. */
export const exposedFileWarning = (name: string): string =>
  `other users can read or write the file of ${name}; set its mode to 0640 or 0600`

/** The admin token of these variables; the command line reads no other setting. */
export const readAdminToken = (env: Environment) => {
  const read = readSecret(definitions.adminToken, env)
  return Option.isOption(read)
    ? Effect.succeed(Option.flatten(read))
    : Effect.fail(new SettingsInvalid({ problems: [read] }))
}

/**
 * The settings of an empty environment without a terminal; tests and the library override single values. This constant is
 * the last one of the file, because reading needs all constants above.
 */
export const defaults: SettingsValues = Effect.runSync(readSettings({}, false))
