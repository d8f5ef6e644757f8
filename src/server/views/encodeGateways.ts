/** Encodes the gateways of an agent's config. Configs differ only in the addresses inside the agents' subnets. */
import type { Level } from "#schema/protocol.ts"
import { HashMap } from "effect"
import { gatewayAddresses } from "#network/addresses.ts"
import type { Agent, Gateway, NetworkState } from "#network/NetworkState.ts"
import { memoize } from "./memoize.ts"
import { endpointOf, gatewayForAgent, gatewaysOfAgent } from "./view.ts"

/** The elements of the JSON array, without its brackets. */
export function encodeGateways(state: NetworkState, agent: Agent, level: Level): string {
  const [, network] = /^((?:\d+\.){3})0\/24$/u.exec(agent.subnet) ?? []
  // Control gives every agent a /24. Without scopes, two agents' texts then differ only in these three octets.
  if (network !== undefined && state.scopeIndex === undefined) return gapsOf[level](state.gateways).join(network)
  const addressOf = gatewayAddresses(agent.subnet)
  return gatewaysOfAgent(state, agent.id).map((gateway) => {
    const address = addressOf(gateway.slot)
    return `${head(gateway)}${address === undefined ? "" : `"${address}"`}${tail(gateway, level)}`
  }).join()
}

/** The text between the insertions of an agent's three octets; cached while no gateway changes. */
const gapsOf: Record<Level, (gateways: NetworkState["gateways"]) => ReadonlyArray<string>> = {
  plain: memoize((gateways: NetworkState["gateways"]) => gaps(gateways, "plain")),
  "control.v1": memoize((gateways: NetworkState["gateways"]) => gaps(gateways, "control.v1"))
}

function gaps(gateways: NetworkState["gateways"], level: Level): ReadonlyArray<string> {
  const result: Array<string> = []
  let gap = ""
  for (const gateway of HashMap.values(gateways)) {
    const host = gatewayAddresses("0.0.0.0/24")(gateway.slot)?.slice("0.0.0.".length)
    gap += gap === "" && result.length === 0 ? head(gateway) : `,${head(gateway)}`
    if (host !== undefined) {
      result.push(`${gap}"`)
      gap = `${host}"`
    }
    gap += tail(gateway, level)
  }
  return [...result, gap]
}

/** The text before the addresses, which come last because they differ between agents. */
const head = memoize((gateway: Gateway) =>
  JSON.stringify({ ...gatewayForAgent(gateway, () => undefined), virtualIps: [] }).slice(0, -2)
)

const endpointTail = memoize((gateway: Gateway) => `],"endpoint":${JSON.stringify(endpointOf(gateway))}}`)

const tail = (gateway: Gateway, level: Level): string => level === "plain" ? "]}" : endpointTail(gateway)
