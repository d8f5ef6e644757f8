/** The WireGuard peers of an agent: every gateway that has an address in the agent's subnet. Pure. */
import type { AgentView } from "#sdk/view.ts"
import type { Endpoint, PeerConfig } from "#wireguard/Device.ts"

/** NAT routers forget a UDP mapping after 30 s at the earliest (RFC 4787, section 4.3). */
const keepaliveSeconds = 25

export const peersOfAgent = ({ agent, gateways }: AgentView): ReadonlyArray<PeerConfig> =>
  [...gateways.values()].flatMap(({ endpoint, virtualIps: [address], wireguardPublicKey }) =>
    address === undefined ? [] : [{
      publicKey: wireguardPublicKey,
      address,
      localAddress: agent.virtualIp,
      endpoint: endpoint === null ? undefined : parseEndpoint(endpoint),
      keepaliveSeconds
    }]
  )

/** Parses `address:port`, IPv6 in brackets. Another host than an address is not an endpoint of Control. */
const parseEndpoint = (text: string): Endpoint | undefined => {
  const [, bracketed, plain, port] = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):(\d{1,5})$/iu.exec(text) ?? []
  const host = bracketed ?? plain
  return host === undefined ? undefined : { host, port: Number(port) }
}
