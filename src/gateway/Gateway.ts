/** The gateway: keeps its WireGuard device, routes, certificates and public ports as the newest view says. */
import type { Clock } from "#processes/clock.ts"
import type { Log } from "#program/log.ts"
import { NotApplied } from "#sdk/NotApplied.ts"
import type { GatewayView } from "#sdk/view.ts"
import type { Device, Endpoint, OnDatagram, PeerStats, TunnelUdpSocket } from "#wireguard/Device.ts"
import { unreachableSocket } from "#wireguard/userspace/UserspaceSocket.ts"
import { Certificates } from "./Certificates.ts"
import { peersOfGateway } from "./peersOfGateway.ts"
import { type Route } from "./Route.ts"
import { RouteTable } from "./RouteTable.ts"
import { ServingStatus, type TunnelServing } from "./ServingStatus.ts"

/** What a device is opened with; other values need another device. */
export interface DeviceSettings {
  readonly privateKey: string
  readonly listenPort: number
  readonly mtu: number
}

/** The public side, to which the gateway gives its routes. */
export interface Front {
  /** Opens and closes public ports; returns the reasons of ports that cannot be opened, by tunnel. */
  setPortRoutes(routes: ReadonlyArray<Route>): Promise<ReadonlyMap<string, string>>
  /** Largest packet inside the tunnels in bytes. */
  setTunnelMtu(mtu: number): void
  /** The route is no longer in use. Its running requests may end until `drainMillis` have passed. */
  retire(route: Route, drainMillis: number): void
}

export interface GatewayOptions {
  readonly clock: Clock
  readonly log: Log
  readonly openDevice: (settings: DeviceSettings) => Promise<Device>
  /** The private key, if this machine made it. Otherwise the view contains the key. */
  readonly privateKey: string | undefined
  /** Endpoints of agents that the last run of the program has learned. */
  readonly lastEndpoints: ReadonlyMap<string, Endpoint>
  readonly onStatusChange: () => void
}

/** Time for running requests of a removed or moved tunnel to end. Agents use the same time. */
const retireMillis = 30_000

/** Age of the facts about peers that probes of UDP tunnels use. */
const statsIntervalMillis = 500

interface LastStats {
  readonly at: number
  readonly stats: ReadonlyArray<PeerStats>
  /** Times of the last handshakes by the agents' addresses. */
  readonly handshakes: ReadonlyMap<string, number>
}

export class Gateway {
  readonly routes: RouteTable
  readonly certificates: Certificates
  readonly #options: GatewayOptions
  readonly #serving: ServingStatus
  #front: Front | undefined
  #opened: { readonly device: Device; readonly settings: DeviceSettings } | undefined
  #lastStats: LastStats | undefined

  constructor(options: GatewayOptions) {
    const { clock, log } = options
    this.#options = options
    this.certificates = new Certificates((domain, reason) =>
      log.error(`cannot use the certificate of ${domain}: ${reason}`, { domain })
    )
    this.routes = new RouteTable({
      connect: (to) => this.#opened?.device.connect(to) ?? unreachableSocket(clock),
      report: (tunnelId, outcome) => this.#serving.record(tunnelId, outcome)
    })
    this.#serving = new ServingStatus({
      clock,
      onChange: options.onStatusChange,
      remark: ({ domain, protocol }) =>
        protocol === "http" && this.certificates.secureContext(domain) === undefined
          ? "http only: there is no certificate"
          : undefined,
      lastHandshakeAt: async ({ address }) => {
        await this.readStats()
        return this.#lastStats?.handshakes.get(address)
      }
    })
  }

  get device(): Device | undefined {
    return this.#opened?.device
  }

  /** Sockets for UDP through the tunnels. Rejects while there is no device. */
  async bindUdp(port: number, onDatagram: OnDatagram): Promise<TunnelUdpSocket> {
    if (this.#opened === undefined) throw new Error("WireGuard is not up")
    return await this.#opened.device.bindUdp(port, onDatagram)
  }

  /** Called once, before the first view is applied. */
  attach(front: Front): void {
    this.#front = front
  }

  /** Makes everything as the view says. Throws `NotApplied` if the device cannot be opened. */
  async apply(view: GatewayView): Promise<void> {
    const device = await this.#openDevice(view)
    await device.configure(peersOfGateway(view, this.#options.lastEndpoints))
    this.#front?.setTunnelMtu(view.mtu)
    this.certificates.update(view.certificates)
    const { added, removed } = this.routes.update(view.tunnels)
    for (const route of removed) this.#front?.retire(route, retireMillis)
    const ports = this.routes.all.filter(({ listenPort }) => listenPort !== null)
    const problems = await this.#front?.setPortRoutes(ports) ?? new Map<string, string>()
    this.#serving.update(added, removed)
    this.#serving.setPortProblems(problems)
  }

  statuses(): ReadonlyArray<TunnelServing> {
    return this.#serving.statuses()
  }

  setPortProblems(problems: ReadonlyMap<string, string>): void {
    this.#serving.setPortProblems(problems)
  }

  /** The machine's network has changed. */
  renew(): void {
    this.device?.renewHandshakes()
    this.#serving.probeNow()
  }

  /** Facts about the peers, at most 0.5 s old. */
  async readStats(): Promise<ReadonlyArray<PeerStats>> {
    const { clock } = this.#options
    const last = this.#lastStats
    if (last !== undefined && clock.monotonic() - last.at < statsIntervalMillis) return last.stats
    const stats = await this.device?.stats() ?? []
    const handshakes = stats.flatMap(({ address, lastHandshakeAt }) =>
      lastHandshakeAt === undefined ? [] : [[address, lastHandshakeAt] as const]
    )
    this.#lastStats = { at: clock.monotonic(), stats, handshakes: new Map(handshakes) }
    return stats
  }

  async close(): Promise<void> {
    this.#serving.close()
    await this.#opened?.device.close()
    this.#opened = undefined
  }

  async #openDevice({ gateway, mtu }: GatewayView): Promise<Device> {
    const privateKey = this.#options.privateKey ?? gateway.wireguardPrivateKey
    if (privateKey === undefined) {
      throw new NotApplied("private_key_missing", "Control sent no WireGuard private key, and this machine has none")
    }
    const settings = { privateKey, listenPort: gateway.listenPort, mtu }
    const opened = this.#opened
    if (
      opened !== undefined && opened.settings.privateKey === privateKey && opened.settings.mtu === mtu &&
      opened.settings.listenPort === gateway.listenPort
    ) return opened.device
    await opened?.device.close()
    this.#opened = undefined
    const device = await this.#options.openDevice(settings).catch((error: NodeJS.ErrnoException) => {
      const isTaken = error.code === "EADDRINUSE"
      throw new NotApplied(
        isTaken ? "port_in_use" : "device_not_opened",
        isTaken
          ? `another program uses UDP port ${gateway.listenPort}; stop it, or give the gateway another listenPort`
          : error.message
      )
    })
    this.#opened = { device, settings }
    this.#options.log.info("WireGuard is up", { device: device.kind, port: device.listenPort })
    return device
  }
}
