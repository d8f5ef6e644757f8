/** Index of scoped gateways and tunnel names. Kept only while a gateway is scoped, so other networks do no extra work. Pure. */
import type { AgentId, GatewayId, TunnelId } from "#schema/ids.ts"
import { HashMap, Option } from "effect"
import { namesCovering } from "./certificateNames.ts"

/** A gateway's scope: it serves the tunnels of these agents and the tunnels with these domains; `*.x` is one label below x. */
export interface Serves {
  readonly agents: ReadonlySet<AgentId>
  readonly domains: ReadonlySet<string>
}

export interface ScopeIndex<Gateway, Tunnel> {
  /** Every scoped gateway; never empty. */
  readonly gateways: HashMap.HashMap<GatewayId, Gateway>
  /** Tunnels by each name with which a certificate or a scope can cover the tunnel's domain. */
  readonly tunnelsByName: HashMap.HashMap<string, HashMap.HashMap<TunnelId, Tunnel>>
}

interface WithScope {
  readonly id: GatewayId
  readonly serves: Serves | null
}

interface WithDomain {
  readonly id: TunnelId
  readonly domain: string
}

/** The index after a gateway was put; calls `tunnels` only if this is the first scoped gateway. */
export const putGateway = <Gateway extends WithScope, Tunnel extends WithDomain>(
  index: ScopeIndex<Gateway, Tunnel> | undefined,
  gateway: Gateway,
  tunnels: () => ReadonlyArray<Tunnel>
): ScopeIndex<Gateway, Tunnel> | undefined => {
  if (gateway.serves === null) return removeGateway(index, gateway.id)
  const known = index ?? tunnels().reduce<ScopeIndex<Gateway, Tunnel>>(
    (all, tunnel) => addTunnel(all, tunnel),
    { gateways: HashMap.empty(), tunnelsByName: HashMap.empty() }
  )
  return { ...known, gateways: HashMap.set(known.gateways, gateway.id, gateway) }
}

/** The index without this gateway; undefined if no scoped gateway is left. */
export const removeGateway = <Gateway, Tunnel>(
  index: ScopeIndex<Gateway, Tunnel> | undefined,
  id: GatewayId
): ScopeIndex<Gateway, Tunnel> | undefined => {
  if (index === undefined || !HashMap.has(index.gateways, id)) return index
  const gateways = HashMap.remove(index.gateways, id)
  return HashMap.isEmpty(gateways) ? undefined : { ...index, gateways }
}

export const addTunnel = <Gateway, Tunnel extends WithDomain>(
  index: ScopeIndex<Gateway, Tunnel>,
  tunnel: Tunnel
): ScopeIndex<Gateway, Tunnel> => ({
  ...index,
  tunnelsByName: namesCovering(tunnel.domain).reduce(
    (byName, name) =>
      HashMap.set(
        byName,
        name,
        HashMap.set(Option.getOrElse(HashMap.get(byName, name), () => HashMap.empty()), tunnel.id, tunnel)
      ),
    index.tunnelsByName
  )
})

export const removeTunnel = <Gateway, Tunnel extends WithDomain>(
  index: ScopeIndex<Gateway, Tunnel>,
  { domain, id }: Tunnel
): ScopeIndex<Gateway, Tunnel> => ({
  ...index,
  tunnelsByName: namesCovering(domain).reduce((byName, name) => {
    const rest = Option.map(HashMap.get(byName, name), HashMap.remove(id))
    if (Option.isNone(rest)) return byName
    return HashMap.isEmpty(rest.value) ? HashMap.remove(byName, name) : HashMap.set(byName, name, rest.value)
  }, index.tunnelsByName)
})
