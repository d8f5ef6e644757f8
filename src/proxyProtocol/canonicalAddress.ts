/** Canonical form of IP addresses from proxy headers. Pure. */
import { unmappedAddress } from "#schema/ids.ts"
import { ipVersion } from "#schema/addresses.ts"
import { SocketAddress } from "node:net"

/**
 * Canonical text of an IP address; undefined for any other text and for addresses with a zone, which are local to one
 * machine.
 */
export const canonicalAddress = (text: string): string | undefined => {
  const version = ipVersion(text)
  if (version === 0) return undefined
  return unmappedAddress(new SocketAddress({ address: text, family: version === 4 ? "ipv4" : "ipv6" }).address)
}
