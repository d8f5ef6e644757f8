/** Whose request it is, and whether it came encrypted: as the socket says, or as a proxy that is trusted says. Pure. */
import { unmappedAddress } from "#schema/ids.ts"
import { isLoopback } from "#server/Settings.ts"
import { plainAddress } from "./addresses.ts"

/** Who is at the other end of a socket. */
export interface Remote {
  readonly address: string | undefined
  /**
   * Whether it is whoever has that address, as this machine sees it. If not, the address is the best there is, and neither
   * the word of a proxy nor of this machine comes from it.
   */
  readonly isKnown: boolean
}

/** As the header of a proxy tells. An address of loopback is that of the proxy's machine, which may not be this one. */
export const remoteTold = (proxy: string, client: string | undefined): Remote =>
  client === undefined
    ? { address: proxy, isKnown: false }
    : { address: client, isKnown: !isLoopback(client) || isLoopback(proxy) }

/** What a request shows of where it comes from. */
export interface Arrival {
  readonly remote: Remote
  /** Whether the socket itself is TLS. */
  readonly encrypted: boolean
  /** Whether any header says that somebody has passed it on. */
  readonly isForwarded: boolean
  readonly forwardedFor: string | undefined
  readonly forwardedProto: string | undefined
}

export interface Peer {
  readonly address: string
  /** `yes` as far as this process can know; `local`: in plaintext, and only inside this machine. */
  readonly encrypted: "yes" | "local" | "no"
}

/**
 * The address that the outermost trusted proxy saw: X-Forwarded-For is read from its end, as each proxy adds to it, and
 * whatever stands before the first address that is not trusted was made up by whoever sent it.
 */
export const peerOf = (arrival: Arrival, isTrusted: (address: string) => boolean): Peer => {
  const remote = unmappedAddress(arrival.remote.address ?? "unknown")
  const isHere = arrival.remote.isKnown && isLoopback(remote)
  // A proxy on this machine is not the only one who asks from it: `control` does, and says nothing of forwarding.
  if (!arrival.remote.isKnown || !isTrusted(remote) || isHere && !arrival.isForwarded) {
    return { address: remote, encrypted: arrival.encrypted ? "yes" : isHere ? "local" : "no" }
  }
  return {
    address: clientBehind(remote, arrival.forwardedFor ?? "", isTrusted),
    // A proxy that adds to what it was sent leaves a list: one hop in plaintext is enough to be read.
    encrypted: listed(arrival.forwardedProto ?? "").every((proto) => proto.toLowerCase() === "https") ? "yes" : "no"
  }
}

function clientBehind(proxy: string, forwardedFor: string, isTrusted: (address: string) => boolean): string {
  let outermost = proxy
  for (const item of listed(forwardedFor).toReversed()) {
    const address = addressIn(item)
    if (address === undefined) return outermost
    outermost = address
    if (!isTrusted(address)) return outermost
  }
  return outermost
}

/** Nothing is a list of one empty item: no header says less than `https`. */
const listed = (header: string): ReadonlyArray<string> => header.split(",").map((item) => item.trim())

/** Some proxies name the port as well: `192.0.2.1:4711`, `[2001:db8::1]:4711`. */
function addressIn(item: string): string | undefined {
  const bare = /^\[([^\]]*)\](?::\d{1,5})?$/u.exec(item)?.[1] ?? /^([\d.]+):\d{1,5}$/u.exec(item)?.[1] ?? item
  return plainAddress(bare)
}
