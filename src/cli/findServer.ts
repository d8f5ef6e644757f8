/** Finds the server to ask and its admin token: the URL of `CONTROL_API_URL`, or the socket in the data directory. */
import { exposedFiles, exposedFileWarning, readAdminToken } from "#server/Settings.ts"
import { apiSocketPath, findApiSocket, openDirectory } from "#store/apiSocket.ts"
import { isTrustedOwner, readSecretFile } from "#store/secretFiles.ts"
import { NodeHttpClient } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Option, type Redacted, type Scope } from "effect"
import { FetchHttpClient, HttpClient } from "effect/http"
import { join } from "node:path"
import { type CommandFailed, commandFailed } from "./CommandFailed.ts"
import { Environment, variable } from "./environment.ts"
import { warningLog } from "./warningLog.ts"

export interface Server {
  /** URL or socket, for messages. */
  readonly name: string
  /** What to do if the server does not answer. */
  readonly remedy: string
  /** The way to the server. Valid until the scope ends. */
  readonly connect: Effect.Effect<Connection, CommandFailed, Scope.Scope>
}

export interface Connection {
  readonly url: string
  readonly token: Redacted.Redacted
  /** The variable or file that the token comes from. */
  readonly tokenSource: string
  readonly client: HttpClient.HttpClient
}

/** The value of `CONTROL_API_URL`; none if the command asks the server of its data directory. */
export const configuredUrl = variable("CONTROL_API_URL")

/**
 * Returns the server of `CONTROL_API_URL`, or else the server of this machine's data directory. A token from the data directory goes
 * through the socket in that directory only, because any program can listen on a port.
 */
export const findServer = Effect.gen(function*() {
  const url = yield* configuredUrl
  const token = yield* configuredToken
  return Option.isSome(url) ? yield* serverAt(url.value, token) : yield* serverOfDataDirectory(token)
})

/** The token of `CONTROL_ADMIN_TOKEN`, or else of `CONTROL_ADMIN_TOKEN_FILE`. */
const configuredToken = Effect.gen(function*() {
  const { CONTROL_ADMIN_TOKEN, CONTROL_ADMIN_TOKEN_FILE } = yield* Environment
  const env = CONTROL_ADMIN_TOKEN ? { CONTROL_ADMIN_TOKEN } : { CONTROL_ADMIN_TOKEN_FILE }
  for (const name of exposedFiles(env)) yield* Console.error(`control: ${exposedFileWarning(name)}`)
  const token = yield* Effect.mapError(readAdminToken(env), ({ message }) => commandFailed("usage", message))
  const source = CONTROL_ADMIN_TOKEN ? "CONTROL_ADMIN_TOKEN" : `CONTROL_ADMIN_TOKEN_FILE (${CONTROL_ADMIN_TOKEN_FILE})`
  return Option.map(token, (value) => ({ token: value, tokenSource: source }))
})

type GivenToken = Pick<Connection, "token" | "tokenSource">

const serverAt = Effect.fnUntraced(function*(url: string, token: Option.Option<GivenToken>) {
  if (!URL.canParse(url) || !/^https?:/u.test(url)) {
    return yield* commandFailed(
      "usage",
      `CONTROL_API_URL is ${JSON.stringify(url)}, but must be a URL such as http://127.0.0.1:3000`
    )
  }
  if (Option.isNone(token)) {
    return yield* commandFailed(
      "unauthorized",
      `no admin token for ${url}; set CONTROL_ADMIN_TOKEN or CONTROL_ADMIN_TOKEN_FILE, because the token of a data ` +
        "directory is never sent to CONTROL_API_URL"
    )
  }
  return {
    name: url,
    remedy: "check that Control runs there, or set CONTROL_API_URL to a running server",
    connect: Effect.map(clientOf(noRedirects), (client) => ({ url, ...token.value, client }))
  } satisfies Server
})

const noRedirects = Layer.provide(
  FetchHttpClient.layer,
  Layer.succeed(FetchHttpClient.RequestInit, { redirect: "manual" })
)

const clientOf = (layer: Layer.Layer<HttpClient.HttpClient>) =>
  Effect.map(Layer.build(layer), (context) => Context.get(context, HttpClient.HttpClient))

const serverOfDataDirectory = Effect.fnUntraced(function*(token: Option.Option<GivenToken>) {
  const given = yield* variable("CONTROL_DATA_DIR")
  const path = Option.getOrElse(given, () => "data")
  const name = apiSocketPath(path)
  const remedy = "start Control, or set CONTROL_DATA_DIR to its data directory or CONTROL_API_URL to its URL"
  const absent = () => commandFailed("unreachable", `no answer from ${name}; ${remedy}`)
  const connect = Effect.gen(function*() {
    const dataDir = Option.getOrUndefined(yield* openDirectory(path))
    if (dataDir === undefined) return yield* absent()
    if (!isTrustedOwner(dataDir.owner, Option.isSome(given) ? dataDir.owner : 0))
      return yield* commandFailed("unauthorized", foreignDirectory(path, dataDir.owner))
    const socketPath = Option.getOrUndefined(yield* findApiSocket(dataDir))
    if (socketPath === undefined) return yield* absent()
    const tokenFile = join(path, "admin-token")
    const stored = Option.isSome(token)
      ? token.value.token
      : yield* readSecretFile(tokenFile, dataDir.at("admin-token"))
    if (stored === undefined) {
      return yield* commandFailed(
        "unauthorized",
        `there is no admin token in ${path}; set CONTROL_ADMIN_TOKEN or CONTROL_ADMIN_TOKEN_FILE`
      )
    }
    const client = yield* clientOf(NodeHttpClient.layerNodeHttpOptions({ socketPath }))
    const tokenSource = Option.isSome(token) ? token.value.tokenSource : tokenFile
    return { url: "http://localhost", token: stored, tokenSource, client }
  }).pipe(
    Effect.catchTag("DataDirectoryUnusable", ({ message }) =>
      commandFailed(
        "unauthorized",
        `${message}; run control as the account of the server or as root, or set CONTROL_API_URL and CONTROL_ADMIN_TOKEN`
      )),
    Effect.provide(warningLog)
  )
  return { name, remedy, connect } satisfies Server
})

/** Root uses the directory of another account only if it was given by name, because anyone can plant a `data` somewhere. */
const foreignDirectory = (path: string, owner: number): string =>
  `the directory ${path} belongs to user id ${owner}, but control runs as user id ${process.getuid?.()}; ` +
  (process.getuid?.() === 0 ? `if you trust its owner, set CONTROL_DATA_DIR=${path}` : "run control as that account")
