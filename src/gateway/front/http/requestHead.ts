/** Checks the head of a request and removes the fields that belong to the visitor's connection. Pure. */
import { type FrontError, frontErrors } from "./errorPages.ts"

/** Values of a trusted proxy's forwarding fields; of other visitors, they are dropped. */
export interface GivenForwarding {
  forwardedFor: string | undefined
  host: string | undefined
  proto: string | undefined
  forwarded: string | undefined
}

export interface RequestHead {
  readonly method: string
  /** Lower-case host name without port and final dot. */
  readonly hostName: string
  /** Host as sent, with its port. */
  readonly host: string
  /** Path and query, or `*`. */
  readonly target: string
  /** End-to-end fields, names and values in turn, without Host, and without Cookie if it came in pieces. */
  readonly fields: ReadonlyArray<string>
  readonly contentLength: number | undefined
  readonly isChunked: boolean
  /** The `Upgrade` field of a request whose `Connection` field names it. */
  readonly upgrade: string | undefined
  readonly expectsContinue: boolean
  readonly acceptsTrailers: boolean
  readonly given: GivenForwarding
  readonly accept: string | undefined
  readonly userAgent: string | undefined
  readonly referer: string | undefined
}

export interface RequestFacts {
  readonly version: "HTTP/1.0" | "HTTP/1.1" | "HTTP/2.0"
  readonly method: string
  readonly target: string
  /** `:authority` of HTTP/2. */
  readonly authority: string | undefined
  /** Names and values in turn, without pseudo fields. */
  readonly rawHeaders: ReadonlyArray<string>
  /** Whether the connection comes from a trusted proxy. */
  readonly isTrusted: boolean
  readonly maxHeaders: number
}

class Scan {
  fields: Array<string> = []
  hosts = 0
  host = ""
  lengths = 0
  length: string | undefined
  codings = 0
  coding = ""
  connection: string | undefined
  upgrade: string | undefined
  expect: string | undefined
  te = ""
  accept: string | undefined
  userAgent: string | undefined
  referer: string | undefined
  cookie: string | undefined
  isFolded = false
  readonly given: GivenForwarding = { forwardedFor: undefined, host: undefined, proto: undefined, forwarded: undefined }
}

/** Returns the head for the service, or the error to answer (RFC 9110, 7.2; RFC 9112, 3.2 and 6.3). */
export const readRequestHead = (facts: RequestFacts): RequestHead | FrontError => {
  const { authority, isTrusted, maxHeaders, method, rawHeaders, version } = facts
  if (rawHeaders.length / 2 > maxHeaders) return frontErrors.headersTooLarge
  const scan = new Scan()
  for (let at = 0; at < rawHeaders.length; at += 2) {
    scanField(scan, rawHeaders[at] as string, rawHeaders[at + 1] as string, isTrusted)
  }
  if (scan.isFolded) return frontErrors.badRequest
  const framingError = version === "HTTP/2.0" ? undefined : checkFraming(scan, version)
  if (framingError !== undefined) return framingError
  if (authority === undefined ? scan.hosts !== 1 : scan.hosts > 1) return frontErrors.badHost
  if (authority !== undefined && scan.hosts === 1 && scan.host.toLowerCase() !== authority.toLowerCase())
    return frontErrors.badHost
  const host = authority ?? scan.host
  const hostName = hostNameOf(host)
  if (hostName === undefined) return frontErrors.badHost
  const target = originForm(facts.target, method, host)
  if (target === undefined) return frontErrors.badTarget
  const names = scan.connection === undefined ? undefined : connectionNames(scan.connection)
  return {
    method,
    hostName,
    host,
    target,
    fields: endToEnd(scan, names),
    contentLength: scan.length === undefined ? undefined : Number(scan.length),
    isChunked: scan.codings > 0,
    upgrade: names?.has("upgrade") === true ? scan.upgrade : undefined,
    expectsContinue: scan.expect !== undefined,
    acceptsTrailers: /(?:^|[,\s])trailers(?:$|[,;\s])/iu.test(scan.te),
    given: scan.given,
    accept: scan.accept,
    userAgent: scan.userAgent,
    referer: scan.referer
  }
}

function scanField(scan: Scan, name: string, value: string, isTrusted: boolean): void {
  const key = name.toLowerCase()
  switch (key) {
    case "host":
      scan.hosts += 1
      scan.host = value
      return
    case "connection":
      scan.connection = scan.connection === undefined ? value : `${scan.connection},${value}`
      return
    case "transfer-encoding":
      scan.codings += 1
      scan.coding = value
      return
    case "te":
      scan.te += `${value},`
      return
    case "upgrade":
      scan.upgrade = value
      return
    case "cookie":
      // HTTP/2 sends cookies in pieces (RFC 9113, 8.2.3).
      scan.cookie = scan.cookie === undefined ? value : `${scan.cookie}; ${value}`
      return
    case "keep-alive":
    case "proxy-connection":
    case "http2-settings":
      return
    case "content-length":
      scan.lengths += 1
      scan.length = value
      break
    case "expect":
      scan.expect = value
      break
    case "accept":
      scan.accept ??= value
      break
    case "user-agent":
      scan.userAgent ??= value
      break
    case "referer":
      scan.referer ??= value
      break
    default:
      if (isForwarding(key) && !keepForwarding(scan.given, key, value, isTrusted)) return
  }
  if (value.includes("\n") || value.includes("\r")) scan.isFolded = true
  scan.fields.push(name, value)
}

const addressFields = new Set([
  "forwarded",
  "x-real-ip",
  "x-client-ip",
  "x-cluster-client-ip",
  "true-client-ip",
  "cf-connecting-ip",
  "cf-connecting-ipv6",
  "fastly-client-ip",
  "x-original-forwarded-for",
  "x-original-host",
  "x-host"
])

/** Names that services read as facts about the visitor. Many services do not distinguish `_` from `-`. */
export function isForwarding(key: string): boolean {
  const first = key.charCodeAt(0)
  // x, f, t and c.
  if (first !== 120 && first !== 102 && first !== 116 && first !== 99) return false
  const name = key.includes("_") ? key.replaceAll("_", "-") : key
  return name.startsWith("x-forwarded") || addressFields.has(name)
}

/** Returns whether the field passes unchanged. */
function keepForwarding(given: GivenForwarding, key: string, value: string, isTrusted: boolean): boolean {
  if (!isTrusted) return false
  switch (key) {
    case "x-forwarded-for":
      given.forwardedFor = given.forwardedFor === undefined ? value : `${given.forwardedFor}, ${value}`
      return false
    case "x-forwarded-host":
      given.host ??= value
      return false
    case "x-forwarded-proto":
      given.proto ??= value
      return false
    case "forwarded":
      given.forwarded = given.forwarded === undefined ? value : `${given.forwarded}, ${value}`
      return false
    default:
      return true
  }
}

function checkFraming(scan: Scan, version: RequestFacts["version"]): FrontError | undefined {
  if (scan.lengths > 1 || (scan.lengths === 1 && scan.codings > 0)) return frontErrors.badFraming
  if (scan.length !== undefined && !/^\d{1,15}$/u.test(scan.length)) return frontErrors.badFraming
  if (scan.codings === 0) return undefined
  if (version === "HTTP/1.0") return frontErrors.badFraming
  return scan.codings === 1 && scan.coding.toLowerCase() === "chunked" ? undefined : frontErrors.unsupportedCoding
}

/** The lower-case name of a `Host` field; undefined if it is not valid. */
const hostNameOf = (host: string): string | undefined => {
  const match = hostPattern.exec(host)
  if (match === null) return undefined
  const name = (match[1] as string).toLowerCase()
  return name.endsWith(".") && name.length > 1 ? name.slice(0, -1) : name
}

const hostPattern = /^([a-z0-9_.-]{1,254}|\[[0-9a-f:.]{2,45}\])(?::\d{0,5})?$/iu

/** The target without scheme and authority, which must be those of the `Host` field; undefined if it is not valid. */
function originForm(target: string, method: string, host: string): string | undefined {
  if (target.includes("#")) return undefined
  if (target.charCodeAt(0) === 47) return target
  if (target === "*") return method === "OPTIONS" ? target : undefined
  const match = /^https?:\/\/([^/?]*)(.*)$/iu.exec(target)
  if (match === null || (match[1] as string).toLowerCase() !== host.toLowerCase()) return undefined
  const rest = match[2] as string
  return rest.startsWith("/") ? rest : `/${rest}`
}

function connectionNames(connection: string): ReadonlySet<string> | undefined {
  const lower = connection.toLowerCase()
  if (lower === "keep-alive" || lower === "close") return undefined
  return new Set(lower.split(",").map((name) => name.trim()))
}

/** Fields that frame or describe the message, which a `Connection` field cannot remove. */
const lasting = new Set(["content-length", "expect"])

function endToEnd(scan: Scan, names: ReadonlySet<string> | undefined): ReadonlyArray<string> {
  const { cookie, fields } = scan
  if (cookie !== undefined) fields.push("Cookie", cookie)
  if (names === undefined) return fields
  const kept: Array<string> = []
  for (let at = 0; at < fields.length; at += 2) {
    const key = (fields[at] as string).toLowerCase()
    if (!names.has(key) || lasting.has(key)) kept.push(fields[at] as string, fields[at + 1] as string)
  }
  return kept
}
