/** HTTP client of a Control server; finds the server and its admin token. */
import { localUrl, readApiUrl } from "#store/apiUrl.ts"
import { isDataDirectoryLocked } from "#store/DataDirectory.ts"
import { Effect, Option, Redacted, Schema, type Scope, Stream } from "effect"
import { FetchHttpClient, HttpClient, HttpClientRequest, type HttpClientResponse } from "effect/http"
import { readFile } from "node:fs/promises"
import { ipVersion } from "#schema/addresses.ts"
import { join } from "node:path"
import { type CommandFailed, commandFailed } from "./CommandFailed.ts"
import { variable } from "./environment.ts"

export interface Server {
  readonly url: string
  readonly token: Redacted.Redacted
}

/** The value of `CONTROL_API_URL`; none if the command has to find the server of this machine. */
export const configuredUrl = variable("CONTROL_API_URL")

const dataDirectory = Effect.map(variable("CONTROL_DATA_DIR"), Option.getOrElse(() => "./data"))

/** URL that the server has written into its data directory, or else the one that the server's settings imply. */
const discoverUrl = Effect.gen(function*() {
  const published = yield* readApiUrl(yield* dataDirectory)
  if (Option.isSome(published)) return published.value
  const host = Option.getOrElse(yield* variable("CONTROL_API_HOST"), () => "127.0.0.1")
  const port = Option.getOrElse(yield* variable("CONTROL_API_PORT"), () => "3000")
  const certificate = yield* variable("CONTROL_TLS_CERTIFICATE")
  return localUrl(Option.isSome(certificate) ? "https" : "http", host, port)
})

/** Returns the server to ask: the one of `CONTROL_API_URL`, or else the one of this machine's data directory. */
export const findServer = Effect.gen(function*() {
  const configured = yield* configuredUrl
  const url = Option.isSome(configured) ? configured.value : yield* discoverUrl
  if (!URL.canParse(url) || !/^https?:/u.test(url)) {
    return yield* commandFailed(
      "usage",
      `CONTROL_API_URL is ${JSON.stringify(url)}, but must be a URL such as http://127.0.0.1:3000`
    )
  }
  return { url, token: yield* findToken(configured, url) } satisfies Server
})

const findToken = Effect.fnUntraced(function*(configured: Option.Option<string>, url: string) {
  const token = yield* variable("CONTROL_ADMIN_TOKEN")
  if (Option.isSome(token)) return Redacted.make(token.value)
  const file = yield* variable("CONTROL_ADMIN_TOKEN_FILE")
  // A server on another machine must never receive the token of this machine's server.
  if (Option.isNone(file) && Option.isSome(configured) && !isLocal(url)) {
    return yield* commandFailed(
      "unauthorized",
      `no admin token for ${url}; set CONTROL_ADMIN_TOKEN or CONTROL_ADMIN_TOKEN_FILE`
    )
  }
  const directory = yield* dataDirectory
  // While the server of the data directory is stopped, another program may listen on its port and must not get the token.
  if (Option.isNone(file) && Option.isNone(configured) && !(yield* isDataDirectoryLocked(directory))) {
    return yield* commandFailed(
      "unreachable",
      `no server runs on ${directory}; start one, or set CONTROL_API_URL to a running server`
    )
  }
  const path = Option.isSome(file) ? file.value : join(directory, "admin-token")
  const content = yield* Effect.option(Effect.tryPromise(() => readFile(path, "utf8")))
  if (Option.isNone(content)) {
    return yield* commandFailed(
      "unauthorized",
      `cannot read the admin token from ${path}; set CONTROL_ADMIN_TOKEN, CONTROL_ADMIN_TOKEN_FILE or CONTROL_DATA_DIR`
    )
  }
  return Redacted.make(content.value.trim())
})

function isLocal(url: string): boolean {
  const { hostname } = new URL(url)
  // The check for an IP address rejects host names that only begin with "127.".
  return hostname === "localhost" || hostname === "[::1]" || (ipVersion(hostname) === 4 && hostname.startsWith("127."))
}

export interface ApiRequest {
  readonly method: string
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

/** Returns the JSON of the response; undefined for an empty response. */
export const requestJson = Effect.fn("cli.requestJson")(function*(server: Server, request: ApiRequest) {
  const response = yield* send(server, request)
  const body = yield* Effect.mapError(response.text, () => connectionLost(server))
  return body === "" ? undefined : yield* Effect.mapError(decodeJson(body), () => notControl(server))
}, Effect.scoped)

/** Streams the bytes of the response. */
export const download = (
  server: Server,
  request: ApiRequest
): Stream.Stream<Uint8Array, CommandFailed, HttpClient.HttpClient> =>
  Stream.unwrap(
    Effect.map(send(server, request), ({ stream }) => Stream.mapError(stream, () => connectionLost(server)))
  )

const send = Effect.fnUntraced(
  function*(server: Server, { body, headers = {}, method, path, query = {} }: ApiRequest): Effect.fn.Return<
    HttpClientResponse.HttpClientResponse,
    CommandFailed,
    HttpClient.HttpClient | Scope.Scope
  > {
    const client = yield* HttpClient.HttpClient
    const base = HttpClientRequest.make(method as "GET")(`${server.url.replace(/\/$/u, "")}${path}`).pipe(
      HttpClientRequest.setUrlParams(query),
      HttpClientRequest.setHeaders(headers),
      HttpClientRequest.bearerToken(server.token)
    )
    const request = body === undefined ? base : yield* Effect.orDie(HttpClientRequest.bodyJson(base, body))
    const response = yield* Effect.mapError(client.execute(request), (error) => connectionFailed(server, error))
    if (response.status < 300) return response
    return yield* rejection(server, response)
  }
)

export const httpClientLayer = FetchHttpClient.layer

/** `fetch` hides the code of a connection failure deep in the causes of its error. */
const errorCodeOf = (error: unknown): string => {
  if (!(error instanceof Error)) return ""
  return "code" in error && typeof error.code === "string" ? error.code : errorCodeOf(error.cause)
}

/** OpenSSL's codes for a certificate chain without a trusted root. */
const isUntrustedChain = (code: string): boolean =>
  /SELF_SIGNED_CERT|UNABLE_TO_(?:VERIFY|GET)|CERT_UNTRUSTED/u.test(code)

const connectionFailed = ({ url }: Server, error: unknown) => {
  const code = errorCodeOf(error)
  if (isUntrustedChain(code)) {
    return commandFailed(
      "unreachable",
      `the certificate of ${url} is not trusted; set NODE_EXTRA_CA_CERTS=FILE to the certificate (PEM) of its issuer`
    )
  }
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return commandFailed(
      "unreachable",
      `the certificate of ${url} is for other names; set CONTROL_API_URL=https://NAME:PORT with one of its names`
    )
  }
  if (code === "CERT_HAS_EXPIRED") {
    return commandFailed("unreachable", `the certificate of ${url} has expired; replace it on the server`)
  }
  return commandFailed(
    "unreachable",
    `no answer from ${url}; check that Control runs there, or set CONTROL_API_URL to a running server`
  )
}
const connectionLost = ({ url }: Server) =>
  commandFailed("unreachable", `the connection to ${url} closed before the response was complete`)
const notControl = ({ url }: Server) =>
  commandFailed("failed", `the server at ${url} is not Control; check CONTROL_API_URL`)

const decodeJson = Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.Unknown))

const decodeProblem = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({
  title: Schema.String,
  detail: Schema.optionalKey(Schema.String),
  errors: Schema.optionalKey(Schema.Array(Schema.Struct({ path: Schema.String, message: Schema.String })))
})))

const rejection = Effect.fnUntraced(function*(server: Server, response: HttpClientResponse.HttpClientResponse) {
  const problem = Option.getOrUndefined(decodeProblem(yield* Effect.orElseSucceed(response.text, () => "")))
  if (problem === undefined) {
    return yield* response.status < 500
      ? notControl(server)
      : commandFailed("unreachable", `HTTP ${response.status} from a proxy in front of Control at ${server.url}`)
  }
  const { detail, errors = [], title } = problem
  const faults = errors.map(({ message, path }) => path === "" ? message : `${path}: ${message}`)
  const explanation = faults.length > 0 ? faults.join("; ") : detail
  const reason = explanation === undefined || explanation === title ? title : `${title}: ${explanation}`
  return yield* commandFailed(failureKindOf(response.status), reason)
})

function failureKindOf(status: number) {
  if (status === 400) return "usage"
  if (status === 401 || status === 403) return "unauthorized"
  return status === 404 ? "notFound" : "failed"
}
