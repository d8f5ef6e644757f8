/** The WireGuard peers of a gateway: every agent in whose subnet the gateway has an address. Pure. */
import type { GatewayView } from "#sdk/view.ts"
import type { Endpoint, PeerConfig } from "#wireguard/Device.ts"

/** `lastEndpoints`: by public key, the endpoints at which the agents were when this program started. */
export const peersOfGateway = (
  { agents }: GatewayView,
  lastEndpoints: ReadonlyMap<string, Endpoint>
): ReadonlyArray<PeerConfig> =>
  [...agents.values()].flatMap(({ gatewayVirtualIp, virtualIp, wireguardPublicKey }) =>
    gatewayVirtualIp === null ? [] : [{
      publicKey: wireguardPublicKey,
      address: virtualIp,
      localAddress: gatewayVirtualIp,
      endpoint: lastEndpoints.get(wireguardPublicKey),
      // The agent is behind NAT and keeps its mapping open itself.
      keepaliveSeconds: 0
    }]
  )
