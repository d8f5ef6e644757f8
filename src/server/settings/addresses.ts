/** Addresses and networks in settings, and the checks that depend on them. */
import { type Cidr, ipVersion } from "#schema/addresses.ts"
import { Option } from "effect"
import { BlockList } from "node:net"

/** Whether only this machine can reach the host: `127.0.0.1`, `::1`, `localhost`. */
export const isLoopback = (host: string): boolean =>
  isLocalhostName(host) || host === "::1" || (ipVersion(host) === 4 && host.startsWith("127."))

/** Host and port as in a URL: an IPv6 address is in brackets, so that its end is visible. */
export const formatHostPort = (host: string, port: number | string): string =>
  `${ipVersion(host) === 6 ? `[${host}]` : host}:${port}`

/**
 * Listening options of `node:net`. Without a host Node listens on `::` for IPv6 and IPv4, and on 0.0.0.0 where the machine has no
 * IPv6.
 */
export const listenOptions = (host: string, port: number): { readonly port: number; readonly host?: string } =>
  host === "::" ? { port } : { port, host }

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

/** Returns a function that tests whether an address is in one of the networks. */
export const addressMatcher = (networks: ReadonlyArray<Cidr>): (address: string) => boolean => {
  const list = new BlockList()
  for (const { address, family, length } of networks) list.addSubnet(address, length, family)
  return (address) => {
    const version = ipVersion(address)
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
