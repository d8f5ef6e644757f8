/** Where the HTTP API is, how it is asked, and what its refusals mean for a command. */
import { localUrlOf, toldApiAddress } from "#store/apiAddress.ts"
import { isDataDirectoryHeld } from "#store/DataDirectory.ts"
import { Config, Effect, Option, Redacted, Schema, type Scope, Stream } from "effect"
import { FetchHttpClient, HttpClient, HttpClientRequest, type HttpClientResponse } from "effect/http"
import { readFile } from "node:fs/promises"
import { isIP } from "node:net"
import { join } from "node:path"
import { type CommandFailed, fail } from "./CommandFailed.ts"

/** A server, and the token that opens it. */
export interface Server {
  readonly url: string
  readonly token: Redacted.Redacted
}

const text = (name: string) =>
  Effect.map(Config.String(name).pipe(Config.option), Option.filter((value) => value !== ""))

/** The URL that was given; none if the server is to be looked for on this machine. */
export const givenUrl = Effect.orDie(text("CONTROL_API_URL"))

const dataDirectory = Effect.orDie(
  Effect.map(text("CONTROL_DATA_DIR"), Option.getOrElse(() => "./data"))
)

/** As the server has told beside its data; one of an older version listens where its settings say. */
const localUrl = Effect.gen(function*() {
  const told = yield* toldApiAddress(yield* dataDirectory)
  if (Option.isSome(told)) return told.value
  const host = Option.getOrElse(yield* text("CONTROL_API_HOST"), () => "127.0.0.1")
  const port = Option.getOrElse(yield* text("CONTROL_API_PORT"), () => "3000")
  const certificate = yield* text("CONTROL_TLS_CERTIFICATE")
  return localUrlOf(Option.isSome(certificate) ? "https" : "http", host, port)
})

/** From the environment; on the server's own machine, from where the server itself has them. */
export const findServer = Effect.gen(function*() {
  const given = yield* givenUrl
  const url = Option.isSome(given) ? given.value : yield* Effect.orDie(localUrl)
  if (!URL.canParse(url) || !/^https?:/u.test(url)) {
    return yield* fail(
      "usage",
      `CONTROL_API_URL is ${JSON.stringify(url)}, but must be a URL such as http://127.0.0.1:3000`
    )
  }
  return { url, token: yield* findToken(given, url) } satisfies Server
})

const findToken = Effect.fnUntraced(function*(given: Option.Option<string>, url: string) {
  const direct = yield* Effect.orDie(text("CONTROL_ADMIN_TOKEN"))
  if (Option.isSome(direct)) return Redacted.make(direct.value)
  const file = yield* Effect.orDie(text("CONTROL_ADMIN_TOKEN_FILE"))
  // The token of this machine's server is nobody else's business.
  if (Option.isNone(file) && Option.isSome(given) && !isLocal(url)) {
    return yield* fail("unauthorized", "set CONTROL_ADMIN_TOKEN or CONTROL_ADMIN_TOKEN_FILE")
  }
  const directory = yield* dataDirectory
  // While that server does not run, whatever listens where it was is a stranger.
  if (Option.isNone(file) && Option.isNone(given) && !(yield* isDataDirectoryHeld(directory))) {
    return yield* fail(
      "unreachable",
      `no server runs on ${directory}: start one, or say with CONTROL_API_URL where to ask`
    )
  }
  const path = Option.isSome(file) ? file.value : join(directory, "admin-token")
  const read = yield* Effect.option(Effect.tryPromise(() => readFile(path, "utf8")))
  if (Option.isNone(read)) {
    return yield* fail(
      "unauthorized",
      `${path} cannot be read: set CONTROL_ADMIN_TOKEN or CONTROL_ADMIN_TOKEN_FILE, or CONTROL_DATA_DIR`
    )
  }
  return Redacted.make(read.value.trim())
})

function isLocal(url: string): boolean {
  // Also a name may begin with 127.
  const { hostname } = new URL(url)
  return hostname === "localhost" || hostname === "[::1]" || (isIP(hostname) === 4 && hostname.startsWith("127."))
}

export interface Question {
  readonly method: string
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

/** The answer's JSON; nothing for an answer without any. */
export const ask = Effect.fn("ask")(function*(server: Server, question: Question) {
  const response = yield* send(server, question)
  const body = yield* Effect.mapError(response.text, () => lost(server))
  return body === "" ? undefined : yield* Effect.mapError(decodeJson(body), () => notControl(server))
}, Effect.scoped)

/** The bytes of the answer, as they come. */
export const download = (
  server: Server,
  question: Question
): Stream.Stream<Uint8Array, CommandFailed, HttpClient.HttpClient> =>
  Stream.unwrap(
    Effect.map(send(server, question), ({ stream }) => Stream.mapError(stream, () => lost(server)))
  )

const send = Effect.fnUntraced(
  function*(server: Server, { body, headers = {}, method, path, query = {} }: Question): Effect.fn.Return<
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
    const response = yield* Effect.mapError(client.execute(request), (error) => unreachable(server, error))
    if (response.status < 300) return response
    return yield* refusal(server, response)
  }
)

export const Asking = FetchHttpClient.layer

/** What a connection failed of is deep in the causes of what `fetch` says. */
const codeIn = (error: unknown): string => {
  if (!(error instanceof Error)) return ""
  return "code" in error && typeof error.code === "string" ? error.code : codeIn(error.cause)
}

/** OpenSSL's names for a chain that ends at nobody who is trusted. */
const isUntrusted = (code: string): boolean => /SELF_SIGNED_CERT|UNABLE_TO_(?:VERIFY|GET)|CERT_UNTRUSTED/u.test(code)

const unreachable = ({ url }: Server, error: unknown) => {
  const code = codeIn(error)
  if (isUntrusted(code)) {
    return fail(
      "unreachable",
      `the certificate of ${url} is not trusted here: NODE_EXTRA_CA_CERTS=FILE names who has issued it (PEM)`
    )
  }
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return fail(
      "unreachable",
      `the certificate of ${url} is for other names: ask by one of them, with CONTROL_API_URL=https://NAME:PORT`
    )
  }
  if (code === "CERT_HAS_EXPIRED") return fail("unreachable", `the certificate of ${url} has expired`)
  return fail("unreachable", `no answer from ${url}: is Control running there? CONTROL_API_URL says where to ask`)
}
const lost = ({ url }: Server) => fail("unreachable", `the answer of ${url} was cut off`)
const notControl = ({ url }: Server) => fail("failed", `what answers at ${url} is not Control`)

const decodeJson = Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.Unknown))

const decodeProblem = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({
  title: Schema.String,
  detail: Schema.optionalKey(Schema.String),
  errors: Schema.optionalKey(Schema.Array(Schema.Struct({ path: Schema.String, message: Schema.String })))
})))

const refusal = Effect.fnUntraced(function*(server: Server, response: HttpClientResponse.HttpClientResponse) {
  const problem = Option.getOrUndefined(decodeProblem(yield* Effect.orElseSucceed(response.text, () => "")))
  if (problem === undefined) {
    return yield* response.status < 500
      ? notControl(server)
      : fail("unreachable", `HTTP ${response.status} from something before Control at ${server.url}`)
  }
  const { detail, errors = [], title } = problem
  const faults = errors.map(({ message, path }) => path === "" ? message : `${path}: ${message}`)
  const said = faults.length > 0 ? faults.join("; ") : detail
  const reason = said === undefined || said === title ? title : `${title}: ${said}`
  return yield* fail(kindOf(response.status), reason)
})

function kindOf(status: number) {
  if (status === 400) return "usage"
  if (status === 401 || status === 403) return "unauthorized"
  return status === 404 ? "notFound" : "failed"
}
