/** Header and trailer fields as they pass between visitors and services. Pure. */
import { type GivenForwarding, isForwarding, type RequestHead } from "./requestHead.ts"

export interface VisitorFacts {
  /** IP address at the other end of the connection. */
  readonly address: string
  readonly scheme: "http" | "https"
}

/** Fields of the request to the service: Host, those of the visitor, and the forwarding fields of the gateway. */
export const serviceFields = (
  head: RequestHead,
  visitor: VisitorFacts,
  connection: { readonly upgrade: string | undefined; readonly hasBody: boolean }
): Array<string> => {
  const { fields, given } = head
  const { address, scheme } = visitor
  const all = ["Host", withoutDefaultPort(head.host, scheme), ...fields]
  all.push(
    "X-Forwarded-For",
    given.forwardedFor === undefined ? address : `${given.forwardedFor}, ${address}`,
    "X-Forwarded-Host",
    given.host ?? head.hostName,
    "X-Forwarded-Proto",
    given.proto ?? scheme
  )
  if (given.forwarded !== undefined) all.push("Forwarded", forwarded(given, visitor))
  if (connection.upgrade !== undefined) all.push("Connection", "Upgrade", "Upgrade", connection.upgrade)
  else if (head.acceptsTrailers) all.push("Connection", "keep-alive, TE", "TE", "trailers")
  if (connection.hasBody) {
    if (head.contentLength === undefined) all.push("Transfer-Encoding", "chunked")
  } else if (head.contentLength === undefined && !bodiless.has(head.method)) all.push("Content-Length", "0")
  return all
}

/** Browsers leave the default port out, and services compare Host with the browser's Origin. */
function withoutDefaultPort(host: string, scheme: VisitorFacts["scheme"]): string {
  const port = scheme === "https" ? ":443" : ":80"
  return host.endsWith(port) ? host.slice(0, -port.length) : host
}

/** Methods whose requests usually have no body (RFC 9110, 8.6). */
const bodiless = new Set(["GET", "HEAD", "DELETE", "OPTIONS"])

/** RFC 7239: the elements of the trusted proxy and one for the proxy itself. */
function forwarded({ forwarded: given }: GivenForwarding, { address, scheme }: VisitorFacts): string {
  return `${given}, for=${address.includes(":") ? `"[${address}]"` : address};proto=${scheme}`
}

const ofConnection = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "te",
  "upgrade",
  "http2-settings"
])

/** End-to-end fields of a service's response, names and values in turn. */
export const visitorFields = (rawHeaders: ReadonlyArray<string>, status: number): Array<string> => {
  const kept: Array<string> = []
  let named: Set<string> | undefined
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] as string
    const value = rawHeaders[at + 1] as string
    const key = name.toLowerCase()
    if (key === "connection") {
      const lower = value.toLowerCase()
      if (lower === "keep-alive" || lower === "close") continue
      named ??= new Set()
      for (const item of lower.split(",")) named.add(item.trim())
    }
    if (ofConnection.has(key) || (status === 204 && key === "content-length")) continue
    kept.push(name, value)
  }
  if (named === undefined) return kept
  const rest: Array<string> = []
  for (let at = 0; at < kept.length; at += 2) {
    const key = (kept[at] as string).toLowerCase()
    if (!named.has(key) || key === "content-length") rest.push(kept[at] as string, kept[at + 1] as string)
  }
  return rest
}

/** Fields that are not allowed in trailers (RFC 9110, 6.5.1). */
const notInTrailers = new Set([
  ...ofConnection,
  "authorization",
  "cache-control",
  "content-encoding",
  "content-length",
  "content-range",
  "content-type",
  "cookie",
  "expect",
  "host",
  "max-forwards",
  "set-cookie",
  "trailer"
])

/** Trailer fields that may pass. Those of a request cannot be forwarding fields, which only the gateway sends. */
export const trailerFields = (raw: ReadonlyArray<string>): Array<[string, string]> => {
  const kept: Array<[string, string]> = []
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at] as string
    const key = name.toLowerCase()
    if (!key.startsWith(":") && !notInTrailers.has(key) && !isForwarding(key)) kept.push([name, raw[at + 1] as string])
  }
  return kept
}

/** Fields of HTTP/2: lower-case names, and a list of values for a repeated name. */
export const http2Fields = (fields: ReadonlyArray<string>): Record<string, string | Array<string>> => {
  const all: Record<string, string | Array<string>> = {}
  for (let at = 0; at < fields.length; at += 2) {
    const name = (fields[at] as string).toLowerCase()
    const value = fields[at + 1] as string
    const known = all[name]
    if (known === undefined) all[name] = value
    else if (Array.isArray(known)) known.push(value)
    else if (!single.has(name)) all[name] = [known, value]
  }
  return all
}

/** Fields that HTTP/2 of Node sends once only: the first value counts. */
const single = new Set([
  "age",
  "content-encoding",
  "content-language",
  "content-length",
  "content-location",
  "content-md5",
  "content-range",
  "content-type",
  "date",
  "etag",
  "expires",
  "last-modified",
  "location",
  "retry-after",
  "server",
  "access-control-allow-credentials",
  "access-control-max-age",
  "tk",
  "upgrade-insecure-requests",
  "x-content-type-options"
])
