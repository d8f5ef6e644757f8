/** The configuration of a process: read once from its environment, checked as a whole, and passed on as one value. */
import { Context, Effect, Layer, Option, Redacted, Schema } from "effect"
import { readFileSync } from "node:fs"
import { conflicts } from "./settings/conflicts.ts"
import { looksSecret } from "./settings/looksSecret.ts"
import { definitions, type PlainSetting, type SecretSetting } from "./settings/definitions.ts"
import { unknownNames } from "./settings/unknownNames.ts"

export {
  acceptsRemotePlaintext as isOpenInPlaintext,
  addressMatcher as within,
  type Cidr,
  isLoopback,
  requiresProxyHeaderFromLoopback as isOwnMachineShutOut
} from "./settings/addresses.ts"
export { PortUnavailable } from "./ingress/PortUnavailable.ts"

type ValuesByDefinition = { readonly [Key in keyof typeof definitions]: (typeof definitions)[Key]["fallback"] }

/** The settings by the names of `settings/table.ts`, which says what each is for. Secrets are `Option<Redacted<string>>`. */
export interface SettingsValues extends ValuesByDefinition {}

export class Settings extends Context.Service<Settings, SettingsValues>()("control/Settings") {
  /** Reads `process.env`; fails with every bad setting at once. */
  static readonly layer: Layer.Layer<Settings, SettingsInvalid> = Layer.effect(
    Settings,
    Effect.suspend(() => readProcessSettings({}))
  )

  static readonly layerOf = (values: SettingsValues): Layer.Layer<Settings> => Layer.succeed(Settings, values)
}

export const SettingProblem = Schema.Struct({
  name: Schema.String,
  given: Schema.optionalKey(Schema.String).annotate({
    description: "What was set; left out for secrets, and for what may be one in the wrong variable."
  }),
  allowed: Schema.String.annotate({ description: "Completes the sentence `NAME must be …`." })
})
export type SettingProblem = typeof SettingProblem.Type

/** Some settings cannot be used. The message has one line for each, and no secret in any. */
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
 * The settings in `env`, whose empty values count as unset. A secret may come as `NAME_FILE`, the path of a file that
 * holds it; a `CONTROL_` variable that is no setting is a problem too. Logs are `pretty` by default on a terminal only.
 */
export const readSettings = Effect.fnUntraced(
  function*(env: Environment, onTerminal: boolean = process.stdout.isTTY === true) {
    const problems: Array<SettingProblem> = []
    const plain = <A>(setting: PlainSetting<A>, fallback: A = setting.fallback): A =>
      valueOrProblem(problems, fallback, readPlain(setting, env[setting.name]))
    const secret = (setting: SecretSetting) => valueOrProblem(problems, setting.fallback, readSecret(setting, env))

    const values: SettingsValues = {
      wsHost: plain(definitions.wsHost),
      wsPort: plain(definitions.wsPort),
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
      nodeName: plain(definitions.nodeName),
      dataDir: plain(definitions.dataDir),
      adminToken: secret(definitions.adminToken),
      masterKey: secret(definitions.masterKey),
      oldMasterKeys: secret(definitions.oldMasterKeys),
      heartbeatInterval: plain(definitions.heartbeatInterval),
      heartbeatTimeout: plain(definitions.heartbeatTimeout),
      authTimeout: plain(definitions.authTimeout),
      drainTimeout: plain(definitions.drainTimeout),
      maxMessageBytes: plain(definitions.maxMessageBytes),
      maxMessagesPerSecond: plain(definitions.maxMessagesPerSecond),
      maxBytesPerSecond: plain(definitions.maxBytesPerSecond),
      maxConnections: plain(definitions.maxConnections),
      maxUnauthenticated: plain(definitions.maxUnauthenticated),
      maxUnauthenticatedPerIp: plain(definitions.maxUnauthenticatedPerIp),
      networkPool: plain(definitions.networkPool),
      logLevel: plain(definitions.logLevel),
      logFormat: plain(definitions.logFormat, onTerminal ? "pretty" : "json")
    }
    const alreadyBad = new Set(problems.map(({ name }) => name))
    problems.push(
      ...conflicts(values).filter(({ between }) => !between.some(({ name }) => alreadyBad.has(name)))
        .map(({ problem }) => problem),
      ...unknownNames(env).map(({ name, nearest }) => ({
        name,
        allowed: `left out: there is no such setting${nearest === undefined ? "" : `; did you mean ${nearest}?`}`
      }))
    )
    return problems.length === 0 ? values : yield* new SettingsInvalid({ problems })
  }
)

/** As `readSettings`, from this process's environment; what `over` has goes before it. */
export const readProcessSettings = (over: Environment) =>
  Effect.suspend(() => readSettings({ ...process.env, ...over }))

/** The text of `.env.example`: every setting with its description, what is allowed, and its default, all commented out. */
export const renderEnvExample = (): string =>
  [
    "# The settings of Control. All are optional; an empty value counts as unset.\n" +
    "# A secret can also be given as NAME_FILE: the path of a file that holds it.\n" +
    "# Written from src/server/settings/definitions.ts by `npx vitest run test/server/Settings.test.ts -u`: change it there.\n",
    ...Object.values(definitions).map((setting) =>
      setting.kind === "secret"
        ? `${settingComment(setting)}#${setting.name}=\n#${setting.name}_FILE=\n`
        : `${settingComment(setting)}#${setting.name}=${setting.defaultNote === undefined ? setting.default : ""}\n`
    )
  ].join("\n")

const settingComment = (setting: PlainSetting<unknown> | SecretSetting): string => {
  const note = setting.kind === "plain" && setting.defaultNote !== undefined ? ` Default: ${setting.defaultNote}.` : ""
  return `# ${setting.description}\n# Allowed: ${setting.allowed}.${note}\n`
}

/** The fallback stands in for a bad value only until the problems are reported. */
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

/** `Some(Some(secret))` when it is set, `None` when it is not. */
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
    return { name, allowed: `left out where ${fileName} is set, or the other way round` }

  const text = file === "" ? direct : readSecretFile(file)
  if (text === undefined)
    return invalidValue(fileName, file, "the path of a file that this process can read")
  return setting.parse(text).pipe(
    Option.match({
      onNone: () => file === "" ? { name, allowed } : invalidValue(fileName, file, `a file that holds ${allowed}`),
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

/**
 * What an empty environment gives away from a terminal: for tests and for the library to spread.
 * Last in the file, since reading needs all that is above.
 */
export const defaults: SettingsValues = Effect.runSync(readSettings({}, false))
