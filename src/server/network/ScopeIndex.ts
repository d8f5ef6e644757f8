/** What is kept only while some gateway is limited, so that a network without limits does no work for them. Pure. */
import type { AgentId, GatewayId, TunnelId } from "#schema/ids.ts"
import { HashMap, Option } from "effect"
import { namesCovering } from "./certificateNames.ts"

/** A gateway serves the tunnels of these agents, and those with these domains; `*.x` is one label below x. */
export interface Serves {
  readonly agents: ReadonlySet<AgentId>
  readonly domains: ReadonlySet<string>
}

export interface ScopeIndex<Gateway, Tunnel> {
  readonly gateways: HashMap.HashMap<GatewayId, Gateway>
  /** By each name that a certificate or a scope can cover the tunnel's domain by. */
  readonly tunnelsByName: HashMap.HashMap<string, HashMap.HashMap<TunnelId, Tunnel>>
}

interface Scoped {
  readonly id: GatewayId
  readonly serves: Serves | null
}

interface Named {
  readonly id: TunnelId
  readonly domain: string
}

/** The limits after a gateway was put; `tunnels` are asked for when it is the first that is limited. */
export const withGateway = <Gateway extends Scoped, Tunnel extends Named>(
  limits: ScopeIndex<Gateway, Tunnel> | undefined,
  gateway: Gateway,
  tunnels: () => ReadonlyArray<Tunnel>
): ScopeIndex<Gateway, Tunnel> | undefined => {
  if (gateway.serves === null) return withoutGateway(limits, gateway.id)
  const known = limits ?? tunnels().reduce<ScopeIndex<Gateway, Tunnel>>(
    (all, tunnel) => withTunnel(all, tunnel),
    { gateways: HashMap.empty(), tunnelsByName: HashMap.empty() }
  )
  return { ...known, gateways: HashMap.set(known.gateways, gateway.id, gateway) }
}

export const withoutGateway = <Gateway, Tunnel>(
  limits: ScopeIndex<Gateway, Tunnel> | undefined,
  id: GatewayId
): ScopeIndex<Gateway, Tunnel> | undefined => {
  if (limits === undefined || !HashMap.has(limits.gateways, id)) return limits
  const gateways = HashMap.remove(limits.gateways, id)
  return HashMap.isEmpty(gateways) ? undefined : { ...limits, gateways }
}

export const withTunnel = <Gateway, Tunnel extends Named>(
  limits: ScopeIndex<Gateway, Tunnel>,
  tunnel: Tunnel
): ScopeIndex<Gateway, Tunnel> => ({
  ...limits,
  tunnelsByName: namesCovering(tunnel.domain).reduce(
    (byName, name) =>
      HashMap.set(
        byName,
        name,
        HashMap.set(Option.getOrElse(HashMap.get(byName, name), () => HashMap.empty()), tunnel.id, tunnel)
      ),
    limits.tunnelsByName
  )
})

export const withoutTunnel = <Gateway, Tunnel extends Named>(
  limits: ScopeIndex<Gateway, Tunnel>,
  { domain, id }: Tunnel
): ScopeIndex<Gateway, Tunnel> => ({
  ...limits,
  tunnelsByName: namesCovering(domain).reduce((byName, name) => {
    const rest = Option.map(HashMap.get(byName, name), HashMap.remove(id))
    if (Option.isNone(rest)) return byName
    return HashMap.isEmpty(rest.value) ? HashMap.remove(byName, name) : HashMap.set(byName, name, rest.value)
  }, limits.tunnelsByName)
})
