/** HTTP client of a Control server: requests, streams, and explanations of failures. */
import { Effect, Option, Schema, type Scope, Stream } from "effect"
import { HttpClientRequest, type HttpClientResponse } from "effect/http"
import { type CommandFailed, commandFailed } from "./CommandFailed.ts"
import type { Server } from "./findServer.ts"

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
export const download = (server: Server, request: ApiRequest): Stream.Stream<Uint8Array, CommandFailed> =>
  Stream.unwrap(
    Effect.map(send(server, request), ({ stream }) => Stream.mapError(stream, () => connectionLost(server)))
  )

const send = Effect.fnUntraced(
  function*(server: Server, { body, headers = {}, method, path, query = {} }: ApiRequest): Effect.fn.Return<
    HttpClientResponse.HttpClientResponse,
    CommandFailed,
    Scope.Scope
  > {
    const { client, token, tokenSource, url } = yield* server.connect
    const base = HttpClientRequest.make(method as "GET")(`${url.replace(/\/$/u, "")}${path}`).pipe(
      HttpClientRequest.setUrlParams(query),
      HttpClientRequest.setHeaders(headers),
      HttpClientRequest.bearerToken(token)
    )
    const request = body === undefined ? base : yield* Effect.orDie(HttpClientRequest.bodyJson(base, body))
    const response = yield* Effect.mapError(client.execute(request), (error) => connectionFailed(server, error))
    if (response.status < 300) return response
    if (response.status < 400) return yield* redirected(server, url, response)
    return yield* rejection(server, tokenSource, response)
  }
)

/** Not followed, because the request can carry the token and private keys to another server. */
const redirected = ({ name }: Server, url: string, { headers }: HttpClientResponse.HttpClientResponse) => {
  const { location = "" } = headers
  const target = URL.canParse(location, url) ? new URL(location, url).origin : "another address"
  return commandFailed("failed", `${name} redirects to ${target}; if you trust it, set CONTROL_API_URL=${target}`)
}

/** `fetch` hides the code of a connection failure deep in the causes of its error. */
const errorCodeOf = (error: unknown): string => {
  if (!(error instanceof Error)) return ""
  return "code" in error && typeof error.code === "string" ? error.code : errorCodeOf(error.cause)
}

/** OpenSSL's codes for a certificate chain without a trusted root. */
const isUntrustedChain = (code: string): boolean =>
  /SELF_SIGNED_CERT|UNABLE_TO_(?:VERIFY|GET)|CERT_UNTRUSTED/u.test(code)

const connectionFailed = ({ name, remedy }: Server, error: unknown) => {
  const code = errorCodeOf(error)
  if (isUntrustedChain(code)) {
    return commandFailed(
      "unreachable",
      `the certificate of ${name} is not trusted; set NODE_EXTRA_CA_CERTS=FILE to the certificate (PEM) of its issuer`
    )
  }
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return commandFailed(
      "unreachable",
      `the certificate of ${name} is for other names; set CONTROL_API_URL=https://NAME:PORT with one of its names`
    )
  }
  if (code === "CERT_HAS_EXPIRED") {
    return commandFailed("unreachable", `the certificate of ${name} has expired; replace it on the server`)
  }
  return commandFailed("unreachable", `no answer from ${name}; ${remedy}`)
}
const connectionLost = ({ name }: Server) =>
  commandFailed("unreachable", `the connection to ${name} closed before the response was complete`)
const notControl = ({ name }: Server) =>
  commandFailed("failed", `the server at ${name} is not Control; check CONTROL_API_URL`)

const decodeJson = Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.Unknown))

const decodeProblem = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({
  type: Schema.optionalKey(Schema.String),
  title: Schema.String,
  detail: Schema.optionalKey(Schema.String),
  errors: Schema.optionalKey(Schema.Array(Schema.Struct({ path: Schema.String, message: Schema.String })))
})))

const rejection = Effect.fnUntraced(function*(
  server: Server,
  tokenSource: string,
  response: HttpClientResponse.HttpClientResponse
) {
  const problem = Option.getOrUndefined(decodeProblem(yield* Effect.orElseSucceed(response.text, () => "")))
  if (problem === undefined) {
    return yield* response.status < 500
      ? notControl(server)
      : commandFailed("unreachable", `HTTP ${response.status} from a proxy in front of Control at ${server.name}`)
  }
  if (response.status === 401) {
    return yield* commandFailed(
      "unauthorized",
      `${server.name} does not accept the admin token of ${tokenSource}; check it`
    )
  }
  const { detail, errors = [], title, type } = problem
  const faults = errors.map(({ message, path }) => path === "" ? message : `${path}: ${message}`)
  const reason = faults.length > 0 ? faults.join("; ") : detail ?? title
  return yield* commandFailed(failureKindOf(response.status, type), reason)
})

function failureKindOf(status: number, type: string | undefined) {
  if (status === 400) return "usage"
  if (status === 401 || status === 403) return "unauthorized"
  // An option, such as --agent, names the missing resource.
  return status === 404 || type === "urn:control:problem:no-such-agent" ? "notFound" : "failed"
}
