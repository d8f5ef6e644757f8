/** Addresses as proxies write them. Pure. */
import { unmappedAddress } from "#schema/ids.ts"
import { isIP, SocketAddress } from "node:net"

/** The one way in which an address is written here; undefined for what is none, or means something on one machine only. */
export const plainAddress = (text: string): string | undefined => {
  const version = isIP(text)
  if (version === 0 || text.includes("%")) return undefined
  return unmappedAddress(new SocketAddress({ address: text, family: version === 4 ? "ipv4" : "ipv6" }).address)
}
