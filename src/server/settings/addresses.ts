/** Addresses as settings name them, and who may read what goes to them. */
import { Option } from "effect"
import { BlockList, isIP } from "node:net"

/** `127.0.0.1`, `::1`, `localhost`: what only this machine reaches. */
export const isLoopback = (host: string): boolean =>
  isLocalName(host) || host === "::1" || (isIP(host) === 4 && host.startsWith("127."))

/**
 * Whether a port that listens here serves others than this machine in plaintext. A proxy that was named is taken to encrypt:
 * whether it does is judged for each request, if that is asked for.
 */
export const isOpenInPlaintext = (
  host: string,
  { tlsCertificate, trustedProxies }: {
    readonly tlsCertificate: Option.Option<string>
    readonly trustedProxies: ReadonlyArray<Cidr>
  }
): boolean => !isLoopback(host) && Option.isNone(tlsCertificate) && trustedProxies.length === 0

/** RFC 6761 section 6.3. */
const isLocalName = (host: string): boolean => /^(?:.+\.)?localhost$/iu.test(host)

/** A network of addresses, for `BlockList.addSubnet` of `node:net`. */
export interface Cidr {
  readonly address: string
  readonly length: number
  readonly family: "ipv4" | "ipv6"
}

/** `10.0.0.0/8`, `2001:db8::/32`, or one address; undefined for anything else. */
export const parseCidr = (text: string): Cidr | undefined => {
  const [address = "", given, ...rest] = text.split("/")
  const version = isIP(address)
  if (version === 0 || address.includes("%") || rest.length > 0) return undefined
  const longest = version === 4 ? 32 : 128
  if (given !== undefined && !(/^\d{1,3}$/u.test(given) && Number(given) <= longest)) return undefined
  return { address, length: given === undefined ? longest : Number(given), family: version === 4 ? "ipv4" : "ipv6" }
}

/** Gives whether an address lies in one of the networks. */
export const within = (networks: ReadonlyArray<Cidr>): (address: string) => boolean => {
  const list = new BlockList()
  for (const { address, family, length } of networks) list.addSubnet(address, length, family)
  return (address) => {
    const version = isIP(address)
    return networks.length > 0 && version !== 0 && list.check(address, version === 6 ? "ipv6" : "ipv4")
  }
}

/** Whether the API closes what comes from this machine itself, where only proxies send headers of the PROXY protocol. */
export const isOwnMachineShutOut = (
  { proxyProtocol, trustedProxies }: {
    readonly proxyProtocol: "off" | "ws" | "api" | "both"
    readonly trustedProxies: ReadonlyArray<Cidr>
  }
): boolean => (proxyProtocol === "api" || proxyProtocol === "both") && ["127.0.0.1", "::1"].some(within(trustedProxies))
