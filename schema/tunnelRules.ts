/** Rules about the fields of a tunnel together. Pure. */
import { Schema } from "effect"
import { parseIpv4, parseIpv6 } from "./addresses.ts"

/** The fields that the rules are about; undefined where a request omits them. */
export interface TunnelShape {
  readonly domain?: string | null | undefined
  readonly target: string
  readonly protocol?: string | undefined
  readonly name?: string | null | undefined
  readonly listenPort?: number | null | undefined
  readonly proxyProtocol?: string | undefined
  readonly tls?: string | undefined
}

/** A broken rule: the field, and what is allowed. */
export interface TunnelProblem {
  readonly path: readonly [keyof TunnelShape]
  readonly issue: string
}

/** The first broken rule; undefined for a tunnel that can be stored. */
export const tunnelProblem = (tunnel: TunnelShape): TunnelProblem | undefined => {
  const { domain, listenPort, name, protocol = "http", proxyProtocol = "none", target, tls } = tunnel
  const isNamed = protocol === "http" || protocol === "tls"
  if (isNamed && (domain ?? "") === "")
    return problem("domain", `expected a domain, because visitors of ${protocol} ask for it`)
  if (isNamed && typeof listenPort === "number") {
    return problem("listenPort", `expected no listenPort, because ${protocol} uses the gateways' ports 80 and 443`)
  }
  if (!isNamed && typeof listenPort !== "number") return problem("listenPort", `expected a public port for ${protocol}`)
  if (protocol === "tcp" && (listenPort === 80 || listenPort === 443)) {
    return problem("listenPort", "expected another port than 80 and 443, which serve http and tls")
  }
  if (!isNamed && (name ?? "") === "") return problem("name", `expected a name, by which a ${protocol} tunnel is found`)
  if (proxyProtocol !== "none" && protocol !== "tcp" && protocol !== "tls") {
    return problem("proxyProtocol", `expected none for ${protocol}; v1 and v2 are for tcp and tls`)
  }
  const [, scheme, host = ""] = targetParts(target)
  if (scheme !== undefined && protocol !== "http")
    return problem("target", `expected host:port without ${scheme}:// for ${protocol}`)
  if (tls === undefined && isUnverifiable(target)) {
    return problem(
      "tls",
      `expected insecure or verify, because ${host} has no name to verify; verify if its certificate is for the tunnel's domain`
    )
  }
  return undefined
}

const problem = (field: keyof TunnelShape, issue: string): TunnelProblem => ({ path: [field], issue })

const targetParts = (target: string): ReadonlyArray<string | undefined> => /^(https?):\/\/(.*):\d+$/u.exec(target) ?? []

/**
 * Whether the target speaks TLS under an IP address or localhost, for which no public authority issues certificates. Such a
 * tunnel needs an explicit `tls`.
 */
export const isUnverifiable = (target: string): boolean => {
  const [, scheme, host = ""] = targetParts(target)
  return scheme === "https" &&
    (host === "localhost" || parseIpv4(host) !== undefined || parseIpv6(host.replace(/^\[|\]$/gu, "")) !== undefined)
}

export const tunnelChecks = [Schema.makeFilter((tunnel: TunnelShape) => tunnelProblem(tunnel))] as const
