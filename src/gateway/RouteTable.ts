/** The routes of a gateway by host name and by tunnel. A change replaces the routes of changed tunnels only. */
import type { GatewayView } from "#sdk/view.ts"
import type { TunnelSocket } from "#wireguard/Device.ts"
import type { Route, RouteProblem, Routes } from "./Route.ts"

type TunnelRow = GatewayView["tunnels"] extends ReadonlyMap<string, infer Row> ? Row : never

interface Entry {
  readonly row: TunnelRow
  readonly route: Route
}

/** Time for an agent to complete the TCP handshake, which includes its dial of the target. */
const connectTimeoutMillis = 10_000

export interface RouteTableOptions {
  readonly connect: (
    to: { readonly address: string; readonly port: number; readonly timeoutMillis: number }
  ) => TunnelSocket
  readonly report: (tunnelId: string, outcome: "ok" | RouteProblem) => void
}

/** What an update has changed. */
export interface RouteChanges {
  readonly added: ReadonlyArray<Route>
  readonly removed: ReadonlyArray<Route>
}

export class RouteTable implements Routes {
  readonly #options: RouteTableOptions
  #byTunnel: ReadonlyMap<string, Entry> = new Map()
  #byName = new Map<string, Route>()

  constructor(options: RouteTableOptions) {
    this.#options = options
  }

  readonly find = (hostName: string): Route | undefined =>
    this.#byName.get(hostName) ?? this.#byName.get(`*${hostName.slice(Math.max(0, hostName.indexOf(".")))}`)

  get all(): ReadonlyArray<Route> {
    return Array.from(this.#byTunnel.values(), ({ route }) => route)
  }

  /** Tunnels that are disabled or have no port yet have no route. */
  update(tunnels: GatewayView["tunnels"]): RouteChanges {
    const added: Array<Route> = []
    const byTunnel = new Map<string, Entry>()
    for (const row of tunnels.values()) {
      if (!row.enabled || row.port === 0) continue
      const known = this.#byTunnel.get(row.id)
      // The view keeps the object of a row that has not changed.
      const isSame = known !== undefined && (known.row === row || JSON.stringify(known.row) === JSON.stringify(row))
      const route = isSame ? known.route : this.#makeRoute(row)
      if (!isSame) added.push(route)
      byTunnel.set(row.id, { row, route })
    }
    const removed = Array.from(this.#byTunnel.values(), ({ route }) => route)
      .filter((route) => byTunnel.get(route.tunnelId)?.route !== route)
    this.#byTunnel = byTunnel
    this.#byName = new Map(
      this.all.filter(({ protocol }) => protocol === "http" || protocol === "tls").map((route) => [route.domain, route])
    )
    return { added, removed }
  }

  #makeRoute(row: TunnelRow): Route {
    const { agentVirtualIp: address, domain, id, listenPort, port, protocol, proxyProtocol, target, tls } = row
    return {
      tunnelId: id,
      domain,
      protocol,
      listenPort,
      address,
      port,
      scheme: target.startsWith("https://") ? "https" : "http",
      tls,
      proxyProtocol,
      connect: () => this.#options.connect({ address, port, timeoutMillis: connectTimeoutMillis }),
      report: (outcome) => this.#options.report(id, outcome)
    }
  }
}
