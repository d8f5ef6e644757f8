/** Address arithmetic: which subnet is whose, and which address in it. Pure. */

/** Each agent has a /24 of its own: 254 hosts, the agent at .1 and the gateways above it. */
const subnetBits = 8
const subnetSize = 1 << subnetBits

/** `10.64.0.0/10` → how many agents' subnets it holds. */
export const subnetCount = (pool: string): number => 2 ** (32 - subnetBits - parseCidr(pool).prefix)

/**
 * The /24 of the agent with this index, and the agent's own address in it; undefined past the end of the pool.
 * `("10.64.0.0/10", 2)` → `{ subnet: "10.64.2.0/24", virtualIp: "10.64.2.1" }`
 */
export const agentAddress = (
  pool: string,
  index: number
): { readonly subnet: string; readonly virtualIp: string } | undefined => {
  if (index < 0 || index >= subnetCount(pool)) return undefined
  const base = parseCidr(pool).base + index * subnetSize
  return { subnet: `${formatIpv4(base)}/${32 - subnetBits}`, virtualIp: formatIpv4(base + 1) }
}

/**
 * The address of the gateway with this slot in an agent's subnet: slot 0 is .2, the last that fits is just below the
 * broadcast address. Undefined where the subnet has no room for it.
 */
export const gatewayAddress = (subnet: string, slot: number): string | undefined => {
  const { base, prefix } = parseCidr(subnet)
  const offset = slot + 2
  return offset < 2 ** (32 - prefix) - 1 ? formatIpv4(base + offset) : undefined
}

function parseCidr(cidr: string): { readonly base: number; readonly prefix: number } {
  const [address = "", prefix = "32"] = cidr.split("/")
  const base = address.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0)
  return { base, prefix: Number(prefix) }
}

function formatIpv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join(".")
}
