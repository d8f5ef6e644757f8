/** Domain types: identifiers, addresses, names and keys, each with its validation rule. */
import { Schema, SchemaGetter } from "effect"
import { ipVersion, parseCidr, parseIpv4, parseIpv6, targetProblem } from "./addresses.ts"

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
  description: "Public part of an API key; safe to show and to log."
})
export type KeyId = typeof KeyId.Type

export const SessionId = id.pipe(Schema.brand("SessionId")).annotate({
  identifier: "SessionId",
  description: "Identifies one authenticated connection; never reused."
})
export type SessionId = typeof SessionId.Type

export const ClientType = Schema.Literals(["agent", "gateway"]).annotate({
  identifier: "ClientType",
  description:
    "`agent`: runs next to a service, behind NAT. `gateway`: runs on a public address and receives the traffic."
})
export type ClientType = typeof ClientType.Type

/** Reference to a client. Only the pair of type and id is unique, because ids of agents and gateways have the same shape. */
export type ClientRef =
  | { readonly type: "agent"; readonly id: AgentId }
  | { readonly type: "gateway"; readonly id: GatewayId }

/** Unique text of a client, for example `agent:a1b2`. */
export const formatClientRef = ({ type, id }: ClientRef): string => `${type}:${id}`

export const Revision = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)).pipe(Schema.brand("Revision")).annotate({
  identifier: "Revision",
  description:
    "Number of a committed change, assigned by the database in commit order without gaps; 0 before the first change.",
  examples: [4711 as never]
})
export type Revision = typeof Revision.Type

export const Timeline = Schema.String.check(Schema.isBetweenLength(1, 64)).pipe(Schema.brand("Timeline")).annotate({
  identifier: "Timeline",
  description: "Identifies one unbroken history of revisions (a UUID). A revision has no meaning without its timeline."
})
export type Timeline = typeof Timeline.Type

export const Name = Schema.Trimmed.check(Schema.isBetweenLength(1, 128), Schema.isPattern(/^[^\p{Cc}\p{Cs}]*$/u))
  .annotate({
    identifier: "Name",
    description: "Display name: 1 to 128 characters, without control characters and without spaces at either end."
  })

const uuid = "[\\da-fA-F]{8}(?:-[\\da-fA-F]{4}){3}-[\\da-fA-F]{12}"

/**
 * A name also stands for its client in paths and on command lines, so it must not look like an id, and no path may end
 * differently with it.
 */
export const ClientName = Name.check(
  Schema.isPattern(/^[^/\\]*$/u, { message: "expected a name without / and \\" }),
  Schema.isPattern(/^(?!\.{1,2}$)/u, { message: "expected a name other than . and .." }),
  Schema.isPattern(new RegExp(`^(?!${uuid}$)`, "u"), {
    message: "expected a name that does not look like an id (UUID)"
  })
).annotate({
  identifier: "ClientName",
  description:
    "Name of an agent or gateway, unique among its kind in any case: 1 to 128 characters, without `/`, `\\`, control " +
    "characters and spaces at either end. Not `.`, `..` or a UUID."
})

const label = "(?!-)[a-z0-9-]{1,63}(?<!-)"

/** An RFC 1123 host name in lower case, at most 253 characters. Its last label is no number, as in `endsInNumber`. */
const hostNamePattern = new RegExp(
  `^(?=.{1,253}$)(?:\\*\\.)?(?:${label}\\.)*(?!(?:\\d+|0x[0-9a-f]*)$)${label}$`,
  "u"
)

export const HostName = Schema.String.check(
  Schema.isPattern(hostNamePattern, {
    message: "expected a host name such as app.example.com or *.example.com: letters, digits and hyphens between dots"
  })
).pipe(Schema.brand("HostName")).annotate({
  identifier: "HostName",
  description: "Host name in lower-case ASCII (punycode), with an optional leading `*.`, for example `app.example.com`."
})
export type HostName = typeof HostName.Type

/**
 * `Bücher.Example` → `xn--bcher-kva.example` (UTS 46, as in URLs). Returns invalid text unchanged, so that the check rejects
 * it.
 */
export const toAsciiHostName = (text: string): string => {
  const wildcard = text.startsWith("*.") ? "*." : ""
  const rest = text.slice(wildcard.length)
  const url = URL.parse(`http://${rest}/`)
  const isBareHost = url !== null && url.pathname === "/" && url.username === "" && url.port === "" && url.search === ""
  return isBareHost && !/[\s/?#@:%\\]/u.test(rest) ? wildcard + url.hostname : text
}

export const HostNameFromInput = Schema.String.annotate({
  description: "Host name in any case and script; stored in lower case and punycode."
}).pipe(
  Schema.decodeTo(HostName, {
    decode: SchemaGetter.transform(toAsciiHostName),
    encode: SchemaGetter.transform((name: string) => name)
  })
)

const octet = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
const ipv4Source = `(?:${octet}\\.){3}${octet}`

export const Ipv4 = Schema.String.check(
  Schema.makeFilter(
    (text: string) => parseIpv4(text) !== undefined || "expected an IPv4 address of four numbers from 0 to 255",
    { toJsonSchema: () => ({ pattern: `^${ipv4Source}$` }) }
  )
).annotate({
  identifier: "Ipv4",
  description: "IPv4 address in dotted decimal.",
  examples: ["10.64.0.1"]
})

export const Ipv4Cidr = Schema.String.check(
  Schema.makeFilter(
    (text: string) =>
      text.includes("/") && parseCidr(text)?.family === "ipv4" || "expected an IPv4 network such as 10.64.0.0/24",
    { toJsonSchema: () => ({ pattern: `^${ipv4Source}/(?:3[0-2]|[12]?\\d)$` }) }
  )
).annotate({
  identifier: "Ipv4Cidr",
  description: "IPv4 network in CIDR notation (RFC 4632).",
  examples: ["10.64.0.0/24"]
})

export const IpAddress = Schema.String.check(
  Schema.makeFilter(
    (text: string) => ipVersion(text) !== 0 || "expected an IPv4 or IPv6 address",
    {
      toJsonSchema: () => ({ anyOf: [{ format: "ipv4" }, { format: "ipv6" }] })
    }
  )
).annotate({
  identifier: "IpAddress",
  description: "IPv4 or IPv6 address.",
  examples: ["203.0.113.7", "2001:db8::7"]
})

/** Turns an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2) into its IPv4 form; returns any other address unchanged. */
export const unmappedAddress = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/u, "")

/**
 * Address block that limits count as one caller: an IPv4 address, or the /64 of an IPv6 address. One subscriber can use all
 * addresses of a /64.
 */
export const addressBlock = (address: string): string => {
  if (!address.includes(":")) return address
  const groups = parseIpv6(address) ?? []
  return `${groups.slice(0, 4).map((group) => group.toString(16)).join(":")}::/64`
}

export const Target = Schema.String.check(
  Schema.makeFilter((text: string) => targetProblem(text) ?? true, {
    toJsonSchema: () => ({
      pattern: "^(?:https?://)?(?:\\[[0-9a-fA-F:.]{2,45}\\]|[A-Za-z0-9_.-]{1,253}):[1-9]\\d{0,4}$"
    })
  })
).annotate({
  identifier: "Target",
  description: "Address to which the agent forwards the traffic: `host:port` or `http(s)://host:port`.",
  examples: ["localhost:8080", "http://10.0.0.5:3000"]
})

export const Port = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65_535 })).annotate({
  identifier: "Port",
  description: "UDP or TCP port.",
  examples: [51820]
})

export const WireguardKey = Schema.String.check(
  Schema.isPattern(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/u)
).annotate({
  identifier: "WireguardKey",
  description: "Curve25519 key: 32 bytes in base64, as printed by `wg`.",
  examples: ["xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="]
})

const daysIn = (year: number, month: number): number => {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  return [4, 6, 9, 11].includes(month) ? 30 : 31
}

/** Timestamps that PostgreSQL accepts too: no year 0, and an offset of at most 14 hours, the largest time zone. */
const timestampPattern =
  /^(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?(?:Z|[+-](?:0\d|1[0-4]):[0-5]\d)$/u

export const Timestamp = Schema.String.check(
  Schema.isPattern(timestampPattern, { message: "expected a timestamp such as 2026-01-31T12:00:00Z" }),
  Schema.makeFilter((text: string) => {
    const [year = 0, month = 0, day = 0] = text.slice(0, 10).split("-").map(Number)
    return day <= daysIn(year, month) || "expected a day that exists"
  }, { toJsonSchema: () => ({}) })
).annotate({
  identifier: "Timestamp",
  description: "Timestamp in RFC 3339; the server always writes UTC.",
  examples: ["2026-01-31T12:00:00.000Z"]
})
