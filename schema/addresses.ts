/** Parses IP addresses, networks, ports and targets. Every input and every stored row is judged here. Pure. */

const octet = /^(?:0|[1-9]\d{0,2})$/u

/** Four decimal numbers without leading zeros, which other parsers read as octal; undefined for any other text. */
export const parseIpv4 = (text: string): ReadonlyArray<number> | undefined => {
  const parts = text.split(".")
  const octets = parts.map(Number)
  return parts.length === 4 && parts.every((part) => octet.test(part)) && octets.every((number) => number <= 255)
    ? octets
    : undefined
}

/** The eight groups of an IPv6 address (RFC 4291 section 2.2), without a zone; undefined for any other text. */
export const parseIpv6 = (text: string): ReadonlyArray<number> | undefined => {
  const [head = "", tail, ...more] = text.split("::")
  const before = parseGroups(head, tail === undefined)
  const after = tail === undefined ? [] : parseGroups(tail, true)
  if (before === undefined || after === undefined || more.length > 0) return undefined
  const missing = 8 - before.length - after.length
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined
  return [...before, ...Array.from({ length: missing }, () => 0), ...after]
}

/** Groups between colons. Only the last ones can have the form of an IPv4 address. */
function parseGroups(text: string, isEnd: boolean): ReadonlyArray<number> | undefined {
  if (text === "") return []
  const parts = text.split(":")
  const last = parts.at(-1) ?? ""
  const ipv4 = isEnd && last.includes(".") ? parseIpv4(last) : undefined
  const groups = ipv4 === undefined ? parts : parts.slice(0, -1)
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/iu.test(group))) return undefined
  const [a = 0, b = 0, c = 0, d = 0] = ipv4 ?? []
  return [
    ...groups.map((group) => Number.parseInt(group, 16)),
    ...ipv4 === undefined ? [] : [a * 256 + b, c * 256 + d]
  ]
}

/** 4 or 6; 0 for text that is no IP address. An address with a zone (`fe80::1%eth0`) has a meaning on one machine only. */
export const ipVersion = (text: string): 0 | 4 | 6 =>
  parseIpv4(text) !== undefined ? 4 : parseIpv6(text) !== undefined ? 6 : 0

/** A network, in the form of the parameters of `BlockList.addSubnet` (`node:net`). */
export interface Cidr {
  readonly address: string
  readonly length: number
  readonly family: "ipv4" | "ipv6"
}

/** Parses `10.0.0.0/8`, `2001:db8::/32` or one address; undefined for any other text. Bits of hosts are allowed. */
export const parseCidr = (text: string): Cidr | undefined => {
  const [address = "", suffix, ...more] = text.split("/")
  const version = ipVersion(address)
  const bits = version === 4 ? 32 : 128
  const length = suffix === undefined ? bits : /^(?:0|[1-9]\d{0,2})$/u.test(suffix) ? Number(suffix) : bits + 1
  return version === 0 || more.length > 0 || length > bits
    ? undefined
    : { address, length, family: version === 4 ? "ipv4" : "ipv6" }
}

/** A port from 1 to 65535 in decimal, without leading zeros; undefined for any other text. */
export const parsePort = (text: string): number | undefined =>
  /^[1-9]\d{0,4}$/u.test(text) && Number(text) <= 65_535 ? Number(text) : undefined

/**
 * Whether resolvers read the name as an IPv4 address, because its last label is a number (URL standard, "ends in a number").
 * Such a name must be an address in full: `999.1.1.1`, `1.2.3` and `0x7f.1` are neither names nor addresses.
 */
export const endsInNumber = (name: string): boolean => /(?:^|\.)(?:\d+|0x[0-9a-f]*)\.?$/iu.test(name)

/** Labels that resolvers inside a network accept. Underscores are allowed, because containers and services use them. */
const targetLabel = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
const targetName = new RegExp(`^(?=.{1,253}$)${targetLabel}(?:\\.${targetLabel})*$`, "u")

/** The reason why a text is no target (`host:port` or `http(s)://host:port`); undefined for a target. */
export const targetProblem = (text: string): string | undefined => {
  const [, host, port] = /^(?:https?:\/\/)?(\[[^\]]*\]|[^:/[\]]*):([^:]*)$/u.exec(text) ?? []
  if (host === undefined || port === undefined)
    return "expected host:port or http(s)://host:port, such as localhost:8080 or [2001:db8::7]:8080"
  if (parsePort(port) === undefined) return "expected a port from 1 to 65535 after the last colon"
  if (host.startsWith("[")) {
    return parseIpv6(host.slice(1, -1)) === undefined
      ? "expected an IPv6 address without a zone in brackets"
      : undefined
  }
  if (endsInNumber(host)) {
    return parseIpv4(host) === undefined ? "expected an IPv4 address of four numbers from 0 to 255" : undefined
  }
  return targetName.test(host) ? undefined : "expected a host name or an IP address before the port"
}
