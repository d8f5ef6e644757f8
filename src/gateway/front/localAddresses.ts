/** Addresses at which a UDP port opens sockets, so that each reply comes from the address that the visitor used. */
import { networkInterfaces } from "node:os"

/** IPv4 and IPv6 addresses of this machine, without link-local ones, which need a zone. */
export const localAddresses = (): ReadonlyArray<string> =>
  Object.values(networkInterfaces()).flatMap((entries) =>
    (entries ?? []).filter(({ address }) => !/^fe[89ab]/iu.test(address)).map(({ address }) => address)
  )

/** A machine with more addresses gets one socket, because each socket is an open file. */
const maxAddressesPerFamily = 16

/**
 * A socket at `0.0.0.0` or `::` sends from the address that the kernel prefers. On a machine with several addresses that can
 * be another one than the visitor's, so that the visitor's NAT drops the reply. Such a machine gets a socket for each
 * address. Pure.
 */
export const udpAddresses = (bind: ReadonlyArray<string>, local: ReadonlyArray<string>): ReadonlyArray<string> => {
  const expanded = bind.flatMap((address) => {
    if (address !== "0.0.0.0" && address !== "::") return [address]
    const family = local.filter((candidate) => candidate.includes(":") === (address === "::"))
    const others = family.filter((candidate) => !candidate.startsWith("127.") && candidate !== "::1")
    return others.length < 2 || family.length > maxAddressesPerFamily ? [address] : family
  })
  return [...new Set(expanded)]
}
