/** The words of the domain: identifiers, addresses, names and keys, each with the one rule that makes it valid. */
import { Schema, SchemaGetter } from "effect"

const id = Schema.String.check(Schema.isBetweenLength(1, 128))

export const AgentId = id.pipe(Schema.brand("AgentId")).annotate({
  identifier: "AgentId",
  description: "Identifies an agent for as long as it exists."
})
export type AgentId = typeof AgentId.Type

export const GatewayId = id.pipe(Schema.brand("GatewayId")).annotate({
  identifier: "GatewayId",
  description: "Identifies a gateway for as long as it exists."
})
export type GatewayId = typeof GatewayId.Type

export const TunnelId = id.pipe(Schema.brand("TunnelId")).annotate({
  identifier: "TunnelId",
  description: "Identifies a tunnel for as long as it exists."
})
export type TunnelId = typeof TunnelId.Type

export const KeyId = id.pipe(Schema.brand("KeyId")).annotate({
  identifier: "KeyId",
  description: "The public part of an API key: safe to show and to log."
})
export type KeyId = typeof KeyId.Type

export const SessionId = id.pipe(Schema.brand("SessionId")).annotate({
  identifier: "SessionId",
  description: "Identifies one authenticated connection; never used twice."
})
export type SessionId = typeof SessionId.Type

export const ClientType = Schema.Literals(["agent", "gateway"]).annotate({
  identifier: "ClientType",
  description: "`agent`: beside a service, behind NAT. `gateway`: on a public address, takes the traffic."
})
export type ClientType = typeof ClientType.Type

/** Which client, whatever its type: the pair is unique although the two kinds of ids are not told apart by shape. */
export type ClientRef =
  | { readonly type: "agent"; readonly id: AgentId }
  | { readonly type: "gateway"; readonly id: GatewayId }

/** One text for both kinds of ids. */
export const nameOf = ({ type, id }: ClientRef): string => `${type}:${id}`

export const Revision = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)).pipe(Schema.brand("Revision")).annotate({
  identifier: "Revision",
  description:
    "The number of a committed change, given by the database in commit order without gaps; 0 before the first."
})
export type Revision = typeof Revision.Type

export const Timeline = Schema.String.check(Schema.isBetweenLength(1, 64)).pipe(Schema.brand("Timeline")).annotate({
  identifier: "Timeline",
  description: "Names one unbroken history of revisions (a UUID); a revision means nothing without it."
})
export type Timeline = typeof Timeline.Type

export const Name = Schema.Trimmed.check(Schema.isBetweenLength(1, 128), Schema.isPattern(/^[^\p{Cc}\p{Cs}]*$/u))
  .annotate({
    identifier: "Name",
    description: "A name for people: 1 to 128 characters, no control characters, no space at either end."
  })

const label = "(?!-)[a-z0-9-]{1,63}(?<!-)"

/** An RFC 1123 host name in lower case, at most 253 characters, whose last label is not a number (that would be an address). */
const hostNamePattern = new RegExp(`^(?=.{1,253}$)(?:\\*\\.)?(?:${label}\\.)*(?!\\d+$)${label}$`, "u")

export const HostName = Schema.String.check(
  Schema.isPattern(hostNamePattern, {
    message: "expected a host name such as app.example.com or *.example.com: letters, digits and hyphens between dots"
  })
).pipe(Schema.brand("HostName")).annotate({
  identifier: "HostName",
  description: "A host name in lower-case ASCII (punycode), with an optional leading `*.`, such as app.example.com."
})
export type HostName = typeof HostName.Type

/** `Bücher.Example` → `xn--bcher-kva.example` (UTS 46, as in URLs); text that is no host name is left for the check to refuse. */
export const toAsciiHostName = (text: string): string => {
  const wildcard = text.startsWith("*.") ? "*." : ""
  const rest = text.slice(wildcard.length)
  const url = URL.parse(`http://${rest}/`)
  const plain = url !== null && url.pathname === "/" && url.username === "" && url.port === "" && url.search === ""
  return plain && !/[\s/?#@:%\\]/u.test(rest) ? wildcard + url.hostname : text
}

export const HostNameFromInput = Schema.String.annotate({
  description: "A host name as people write it; stored in lower case and punycode."
}).pipe(
  Schema.decodeTo(HostName, {
    decode: SchemaGetter.transform(toAsciiHostName),
    encode: SchemaGetter.transform((name: string) => name)
  })
)

const octet = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
const ipv4Source = `(?:${octet}\\.){3}${octet}`

export const Ipv4 = Schema.String.check(Schema.isPattern(new RegExp(`^${ipv4Source}$`, "u"))).annotate({
  identifier: "Ipv4",
  description: "An IPv4 address in dotted decimal.",
  examples: ["10.64.0.1"]
})

export const Ipv4Cidr = Schema.String.check(
  Schema.isPattern(new RegExp(`^${ipv4Source}/(?:3[0-2]|[12]?\\d)$`, "u"))
).annotate({
  identifier: "Ipv4Cidr",
  description: "An IPv4 network in CIDR notation (RFC 4632).",
  examples: ["10.64.0.0/24"]
})

/** RFC 4291 text form; `URL` is the parser that browsers and Node share. */
const isIpv6 = (text: string): boolean => /^[0-9a-fA-F:.]{2,45}$/u.test(text) && URL.canParse(`http://[${text}]/`)

export const IpAddress = Schema.String.check(
  Schema.makeFilter(
    (text: string) =>
      new RegExp(`^${ipv4Source}$`, "u").test(text) || isIpv6(text) || "expected an IPv4 or IPv6 address",
    {
      toJsonSchema: () => ({ anyOf: [{ format: "ipv4" }, { format: "ipv6" }] })
    }
  )
).annotate({
  identifier: "IpAddress",
  description: "An IPv4 or IPv6 address.",
  examples: ["203.0.113.7", "2001:db8::7"]
})

/** An IPv4 address in its own form, also where an IPv6 socket has mapped it (RFC 4291 section 2.5.5.2). */
export const unmappedAddress = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/u, "")

/** What is counted as one address: of IPv6 the first 64 bits, all of which a single subscriber has to choose from. */
export const addressBlock = (address: string): string => {
  if (!address.includes(":")) return address
  const [head = "", tail] = address.split("::", 2)
  const groups = (text: string) => text === "" ? [] : text.split(":")
  const before = groups(head)
  const after = groups(tail ?? "")
  // An IPv4 address at the end stands for two groups.
  const length = before.length + after.length + (address.includes(".") ? 1 : 0)
  const all = [...before, ...Array.from({ length: tail === undefined ? 0 : 8 - length }, () => "0"), ...after]
  return `${all.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16)).join(":")}::/64`
}

const targetLabel = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"

/** Names as resolvers inside a network take them: also with underscores, as containers and services have them. */
const targetName = `(?=[^:]{1,253}:)${targetLabel}(?:\\.${targetLabel})*`
const targetHost = `(?:${ipv4Source}|\\[[0-9a-fA-F:.]{2,45}\\]|${targetName})`
const targetPort = "(?:6553[0-5]|655[0-2]\\d|65[0-4]\\d\\d|6[0-4]\\d{3}|[1-5]\\d{4}|[1-9]\\d{0,3})"

export const Target = Schema.String.check(
  Schema.isPattern(new RegExp(`^(?:https?://)?${targetHost}:${targetPort}$`, "u"), {
    message: "expected host:port or http(s)://host:port, such as localhost:8080"
  })
).annotate({
  identifier: "Target",
  description: "Where the agent sends a tunnel's traffic: `host:port` or `http(s)://host:port`.",
  examples: ["localhost:8080", "http://10.0.0.5:3000"]
})

export const Port = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65_535 })).annotate({
  identifier: "Port",
  description: "A UDP or TCP port."
})

export const WireguardKey = Schema.String.check(
  Schema.isPattern(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/u)
).annotate({
  identifier: "WireguardKey",
  description: "A Curve25519 key of 32 bytes in base64, as `wg` prints it.",
  examples: ["xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="]
})

const daysIn = (year: number, month: number): number => {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  return [4, 6, 9, 11].includes(month) ? 30 : 31
}

/** What PostgreSQL reads as well: it has no year 0, and no place is further than 14 hours from UTC. */
const momentPattern =
  /^(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?(?:Z|[+-](?:0\d|1[0-4]):[0-5]\d)$/u

export const Timestamp = Schema.String.check(
  Schema.isPattern(momentPattern, { message: "expected a moment such as 2026-01-31T12:00:00Z" }),
  Schema.makeFilter((text: string) => {
    const [year = 0, month = 0, day = 0] = text.slice(0, 10).split("-").map(Number)
    return day <= daysIn(year, month) || "expected a day that there is"
  }, { toJsonSchema: () => ({}) })
).annotate({
  identifier: "Timestamp",
  description: "A moment in RFC 3339; the server always writes UTC.",
  examples: ["2026-01-31T12:00:00.000Z"]
})
