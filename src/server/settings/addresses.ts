/** Addresses and networks in settings, and the checks that depend on them. */
import { Option, Result } from "effect"
import { IpInterface, NetAddress } from "effect/net"
import { BlockList, isIP } from "node:net"

/** Whether only this machine can reach the host: `127.0.0.1`, `::1`, `localhost`. */
export const isLoopback = (host: string): boolean =>
  isLocalhostName(host) || host === "::1" || (isIP(host) === 4 && host.startsWith("127."))

/**
 * Whether a port on `host` accepts plaintext from other machines. False if a proxy is trusted, because the proxy is expected
 * to end TLS; `CONTROL_REQUIRE_TLS` checks each request.
 */
export const acceptsRemotePlaintext = (
  host: string,
  { tlsCertificate, trustedProxies }: {
    readonly tlsCertificate: Option.Option<string>
    readonly trustedProxies: ReadonlyArray<Cidr>
  }
): boolean => !isLoopback(host) && Option.isNone(tlsCertificate) && trustedProxies.length === 0

/** `localhost` and its subdomains (RFC 6761 section 6.3). */
const isLocalhostName = (host: string): boolean => /^(?:.+\.)?localhost$/iu.test(host)

/** A network, in the form of the parameters of `BlockList.addSubnet` (`node:net`). */
export interface Cidr {
  readonly address: string
  readonly length: number
  readonly family: "ipv4" | "ipv6"
}

/** Parses `10.0.0.0/8`, `2001:db8::/32` or one address. Returns undefined for any other text. */
export const parseCidr = (text: string): Cidr | undefined =>
  Result.match(IpInterface.fromString(text), {
    onFailure: () => undefined,
    onSuccess: ({ address, prefixLength }) => ({
      address: NetAddress.formatIp(address),
      length: prefixLength,
      family: NetAddress.isIpv4Address(address) ? "ipv4" as const : "ipv6" as const
    })
  })

/** Returns a function that tests whether an address is in one of the networks. */
export const addressMatcher = (networks: ReadonlyArray<Cidr>): (address: string) => boolean => {
  const list = new BlockList()
  for (const { address, family, length } of networks) list.addSubnet(address, length, family)
  return (address) => {
    const version = isIP(address)
    return networks.length > 0 && version !== 0 && list.check(address, version === 6 ? "ipv6" : "ipv4")
  }
}

/** Whether the API closes connections from this machine, because loopback is trusted and must send a PROXY header. */
export const requiresProxyHeaderFromLoopback = (
  { proxyProtocol, trustedProxies }: {
    readonly proxyProtocol: "off" | "ws" | "api" | "both"
    readonly trustedProxies: ReadonlyArray<Cidr>
  }
): boolean =>
  (proxyProtocol === "api" || proxyProtocol === "both") && ["127.0.0.1", "::1"].some(addressMatcher(trustedProxies))
