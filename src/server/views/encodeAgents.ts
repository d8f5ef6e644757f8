/** Encodes the agents of a gateway's config. Gateways of `control.v1` also get their own address in each agent's subnet. */
import { gatewayAddresses } from "#network/addresses.ts"
import type { Agent, NetworkState } from "#network/NetworkState.ts"
import { memoize } from "./memoize.ts"
import { agentForGateways, agentForGatewayV1 } from "./view.ts"

export const agentForGatewaysJson = memoize((agent: Agent) => JSON.stringify(agentForGateways(agent)))

type Bucket = ReadonlyMap<string, Agent>

/** The agents' text with the address of the gateway with this slot, which gateways do not share. */
export function agentsOfGateway(agents: NetworkState["agents"], slot: number): string {
  const host = gatewayAddresses("0.0.0.0/24")(slot)?.slice("0.0.0.".length)
  return agents.buckets.filter(({ size }) => size > 0).map((bucket) => {
    // Control gives every agent a /24. The texts for two slots then differ only in the last octet of the addresses.
    if (!hasStandardSubnets(bucket))
      return Array.from(bucket.values(), (agent) => JSON.stringify(agentForGatewayV1(agent, slot))).join()
    return host === undefined ? textWithoutAddresses(bucket) : gaps(bucket).join(host)
  }).join()
}

/** Encodes and caches what `agentsOfGateway` needs, bucket by bucket. */
export function* prepareAgents({ buckets }: NetworkState["agents"]): Iterable<void> {
  for (const bucket of buckets) yield void (hasStandardSubnets(bucket) && gaps(bucket))
}

const standardSubnet = /^((?:\d+\.){3})0\/24$/u

const hasStandardSubnets = memoize((bucket: Bucket) =>
  [...bucket.values()].every(({ subnet }) => standardSubnet.test(subnet))
)

/** A slot beyond the subnets is the same for every gateway that has one. */
const textWithoutAddresses = memoize((bucket: Bucket) =>
  Array.from(bucket.values(), (agent) => `${openObject(agent)}"gatewayVirtualIp":null}`).join()
)

/** The text between the insertions of the last octet. */
const gaps = memoize((bucket: Bucket): ReadonlyArray<string> => {
  const result: Array<string> = []
  let gap = ""
  for (const agent of bucket.values()) {
    const [, network = ""] = standardSubnet.exec(agent.subnet) ?? []
    result.push(`${gap}${openObject(agent)}"gatewayVirtualIp":"${network}`)
    gap = "\"},"
  }
  return [...result, "\"}"]
})

const openObject = (agent: Agent): string => `${agentForGatewaysJson(agent).slice(0, -1)},`
