/** Addresses as proxies write them, and which of them are ours. Pure. */
import { unmappedAddress } from "#schema/ids.ts"
import type { Cidr } from "#Settings.ts"
import { BlockList, isIP, SocketAddress } from "node:net"

/** The one way in which an address is written here; undefined for what is none, or means something on one machine only. */
export const plainAddress = (text: string): string | undefined => {
  const version = isIP(text)
  if (version === 0 || text.includes("%")) return undefined
  return unmappedAddress(new SocketAddress({ address: text, family: version === 4 ? "ipv4" : "ipv6" }).address)
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
