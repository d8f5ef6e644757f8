/** Address arithmetic: agents' subnets, and the addresses of agents and gateways in them. Pure. */

/** Each agent has its own /24 with 254 hosts: the agent is .1, and the gateways follow. */
const subnetBits = 8
const subnetSize = 1 << subnetBits

/** Number of agents' subnets in a pool, for example 16,384 in `10.64.0.0/10`. */
export const subnetCount = (pool: string): number => 2 ** (32 - subnetBits - parseSubnet(pool).prefix)

/**
 * The /24 of the agent with this index, and the agent's own address in it; undefined past the end of the pool.
 * `("10.64.0.0/10", 2)` → `{ subnet: "10.64.2.0/24", virtualIp: "10.64.2.1" }`
 */
export const agentAddress = (
  pool: string,
  index: number
): { readonly subnet: string; readonly virtualIp: string } | undefined => {
  if (index < 0 || index >= subnetCount(pool)) return undefined
  const base = parseSubnet(pool).base + index * subnetSize
  return { subnet: `${formatIpv4(base)}/${32 - subnetBits}`, virtualIp: formatIpv4(base + 1) }
}

/**
 * The gateways' addresses in an agent's subnet by slot. Slot 0 is .2, and the last slot is just below the broadcast address;
 * undefined if the subnet has no room for the slot.
 */
export const gatewayAddresses = (subnet: string): (slot: number) => string | undefined => {
  const { base, prefix } = parseSubnet(subnet)
  const broadcast = 2 ** (32 - prefix) - 1
  return (slot) => slot + 2 < broadcast ? formatIpv4(base + slot + 2) : undefined
}

/** `effect/net` parses the same text six times slower, and this runs for each agent in a gateway's config. */
function parseSubnet(cidr: string): { readonly base: number; readonly prefix: number } {
  const [address = "", prefix = "32"] = cidr.split("/")
  const base = address.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0)
  return { base, prefix: Number(prefix) }
}

function formatIpv4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`
}
