/** Limits the addresses and ports that an agent dials (`--allow`). Pure. */
import { parseCidr } from "#schema/addresses.ts"
import { OptionProblem } from "#program/options.ts"
import { BlockList, isIP } from "node:net"

export interface AllowRule {
  readonly contains: (address: string) => boolean
  readonly firstPort: number
  readonly lastPort: number
}

/** Parses `CIDR`, `CIDR:PORT` or `CIDR:FIRST-LAST`; an IPv6 network with ports is in brackets. */
export const parseAllowRule = (text: string): AllowRule => {
  const [, bracketed, plain, first, last] =
    /^(?:\[([^\]]+)\]|([^:[\]]+|[^[\]]*::[^[\]]*|(?:[^:[\]]+:){7}[^:[\]]+))(?::(\d{1,5})(?:-(\d{1,5}))?)?$/u.exec(
      text
    ) ?? []
  const cidr = parseCidr(bracketed ?? plain ?? "")
  const firstPort = first === undefined ? 1 : Number(first)
  const lastPort = last === undefined ? (first === undefined ? 65_535 : firstPort) : Number(last)
  if (cidr === undefined || firstPort < 1 || lastPort > 65_535 || firstPort > lastPort) {
    throw new OptionProblem("CIDR:PORTS such as 127.0.0.0/8:8000-8999, 192.168.1.5:443 or [fd00::/8]:80")
  }
  const list = new BlockList()
  list.addSubnet(cidr.address, cidr.length, cidr.family)
  return { contains: (address) => list.check(address, isIP(address) === 6 ? "ipv6" : "ipv4"), firstPort, lastPort }
}

/** Whether an agent dials this address. Without rules, it dials every configured target. */
export const isAllowed = (rules: ReadonlyArray<AllowRule>, address: string, port: number): boolean =>
  rules.length === 0 ||
  rules.some((rule) => rule.firstPort <= port && port <= rule.lastPort && rule.contains(address))
