/** Determines the address of the caller and the encryption of its path, through trusted proxies. Pure. */
import { unmappedAddress } from "#schema/ids.ts"
import { isLoopback } from "#server/Settings.ts"
import { canonicalAddress } from "#proxyProtocol/canonicalAddress.ts"

/** Other end of a socket. */
export interface RemoteEndpoint {
  readonly address: string | undefined
  /**
   * Whether `address` is the sender of the request, as seen from this machine. Otherwise the sender is unknown, and
   * `address` is the best available value. Such a request counts neither as forwarded by a proxy nor as local.
   */
  readonly isKnown: boolean
}

/**
 * Other end according to a PROXY header. A loopback client is on the proxy's machine, which is this machine only if the
 * proxy is on loopback too.
 */
export const remoteFromProxyHeader = (proxy: string, client: string | undefined): RemoteEndpoint =>
  client === undefined
    ? { address: proxy, isKnown: false }
    : { address: client, isKnown: !isLoopback(client) || isLoopback(proxy) }

/** Properties of a request that show where it comes from. */
export interface RequestSource {
  readonly remote: RemoteEndpoint
  /** Whether the socket itself is TLS. */
  readonly isTls: boolean
  /** Whether any header shows that a proxy has forwarded the request. */
  readonly isForwarded: boolean
  readonly forwardedFor: string | undefined
  readonly forwardedProto: string | undefined
}

export interface Caller {
  /** IP address, or `unknown`. */
  readonly address: string
  /** `yes`: every hop that this process knows of is encrypted. `local`: plaintext within this machine. */
  readonly encrypted: "yes" | "local" | "no"
}

/**
 * Resolves the address that the outermost trusted proxy saw. Each proxy appends to X-Forwarded-For, so the header is read
 * from its end. Everything before the first untrusted address may be forged.
 */
export const callerOf = (source: RequestSource, isTrusted: (address: string) => boolean): Caller => {
  const remote = unmappedAddress(source.remote.address ?? "unknown")
  const isLocal = source.remote.isKnown && isLoopback(remote)
  // Programs of this machine also connect from loopback, and their requests have no forwarding headers.
  if (!source.remote.isKnown || !isTrusted(remote) || isLocal && !source.isForwarded) {
    return { address: remote, encrypted: source.isTls ? "yes" : isLocal ? "local" : "no" }
  }
  return {
    address: clientBehindProxies(remote, source.forwardedFor ?? "", isTrusted),
    // Proxies append to X-Forwarded-Proto. One plaintext hop lets others read the request.
    encrypted: splitList(source.forwardedProto ?? "").every((scheme) => encryptedScheme.test(scheme)) ? "yes" : "no"
  }
}

/** Most proxies send `https` for every request over TLS; Traefik sends `wss` for an upgrade. */
const encryptedScheme = /^(?:https|wss)$/iu

function clientBehindProxies(proxy: string, forwardedFor: string, isTrusted: (address: string) => boolean): string {
  let outermost = proxy
  for (const item of splitList(forwardedFor).toReversed()) {
    const address = parseForwardedAddress(item)
    if (address === undefined) return outermost
    outermost = address
    if (!isTrusted(address)) return outermost
  }
  return outermost
}

/** An empty header is a list of one empty item, so a missing X-Forwarded-Proto does not count as `https`. */
const splitList = (header: string): ReadonlyArray<string> => header.split(",").map((item) => item.trim())

/** Some proxies add the port: `192.0.2.1:4711`, `[2001:db8::1]:4711`. */
function parseForwardedAddress(item: string): string | undefined {
  const withoutPort = /^\[([^\]]*)\](?::\d{1,5})?$/u.exec(item)?.[1] ?? /^([\d.]+):\d{1,5}$/u.exec(item)?.[1] ?? item
  return canonicalAddress(withoutPort)
}
