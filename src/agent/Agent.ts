/** The agent: keeps its WireGuard device and its tunnels as the newest view says. */
import type { Clock } from "#processes/clock.ts"
import type { Log } from "#program/log.ts"
import { NotApplied } from "#sdk/NotApplied.ts"
import type { AgentView } from "#sdk/view.ts"
import type { Device } from "#wireguard/Device.ts"
import { type Dialer, parseTarget } from "./dialTarget.ts"
import { peersOfAgent } from "./peersOfAgent.ts"
import { Quota } from "./Quota.ts"
import type { Status } from "./TargetStatus.ts"
import { TcpTunnel } from "./TcpTunnel.ts"
import { UdpTunnel } from "./UdpTunnel.ts"

type TunnelRow = AgentView["tunnels"] extends ReadonlyMap<string, infer Row> ? Row : never

/** A tunnel in use, with the row that it was made from. */
interface OpenTunnel {
  readonly row: TunnelRow
  readonly tunnel: TcpTunnel | UdpTunnel
  readonly stopListening: () => void
}

/** What a device is opened with; other values need another device. */
export interface DeviceSettings {
  readonly privateKey: string
  readonly mtu: number
}

export interface AgentOptions {
  readonly clock: Clock
  readonly log: Log
  readonly dialer: Dialer
  readonly maxConnections: number
  readonly openDevice: (settings: DeviceSettings) => Promise<Device>
  /** The private key, if this machine made it. Otherwise the view contains the key. */
  readonly privateKey: string | undefined
  readonly onStatusChange: () => void
}

/** State of a tunnel as the agent reports it. */
export interface TunnelState extends Status {
  readonly id: string
  readonly domain: string
}

/** Time for the connections of a removed tunnel to end. Gateways use the same time. */
const retireMillis = 30_000

const drainCheckMillis = 50

export class Agent {
  readonly #options: AgentOptions
  readonly #quota: Quota
  readonly #tunnels = new Map<string, OpenTunnel>()
  #opened: { readonly device: Device; readonly settings: DeviceSettings } | undefined

  constructor(options: AgentOptions) {
    this.#options = options
    this.#quota = new Quota(options.maxConnections)
  }

  get device(): Device | undefined {
    return this.#opened?.device
  }

  get connections(): number {
    return this.#quota.used
  }

  get refusedConnections(): number {
    return this.#quota.refused
  }

  /** Makes the device and the tunnels as the view says. Throws `NotApplied` after it has applied what it could. */
  async apply(view: AgentView): Promise<void> {
    const device = await this.#openDevice(view)
    await device.configure(peersOfAgent(view))
    const wanted = new Map([...view.tunnels].filter(([, { enabled, port }]) => enabled && port > 0))
    for (const [id, open] of this.#tunnels) {
      const row = wanted.get(id)
      if (row !== undefined && isSameTunnel(row, open.row)) this.#tunnels.set(id, { ...open, row })
      else this.#retire(id, open)
    }
    const missing = [...wanted.values()].filter(({ id }) => !this.#tunnels.has(id))
    const problems = await Promise.all(missing.map((row) => this.#tryOpen(device, row)))
    this.#options.onStatusChange()
    const problem = problems.find((one) => one !== undefined)
    if (problem !== undefined) throw problem
  }

  states(): ReadonlyArray<TunnelState> {
    return Array.from(this.#tunnels.values(), ({ row: { domain, id }, tunnel: { status } }) => ({
      id,
      domain,
      ...status
    }))
  }

  /**
   * Rejects new connections, so that the gateways use other agents or say that the service is away. Resolves when no connection is
   * open, or after `millis`.
   */
  async drain(millis: number): Promise<void> {
    const { clock } = this.#options
    for (const { tunnel } of this.#tunnels.values()) tunnel.drain()
    const deadline = clock.monotonic() + millis
    await new Promise<void>((resolve) => {
      const check = () => {
        if (this.connections === 0 || clock.monotonic() >= deadline) resolve()
        else clock.after(drainCheckMillis, check)
      }
      check()
    })
  }

  async close(): Promise<void> {
    for (const { stopListening, tunnel } of this.#tunnels.values()) {
      stopListening()
      tunnel.close()
    }
    this.#tunnels.clear()
    await this.#opened?.device.close()
    this.#opened = undefined
  }

  async #openDevice({ agent, mtu }: AgentView): Promise<Device> {
    const privateKey = this.#options.privateKey ?? agent.wireguardPrivateKey
    if (privateKey === undefined) {
      throw new NotApplied("private_key_missing", "Control sent no WireGuard private key, and this machine has none")
    }
    const opened = this.#opened
    if (opened !== undefined && opened.settings.privateKey === privateKey && opened.settings.mtu === mtu) {
      return opened.device
    }
    await this.close()
    const settings = { privateKey, mtu }
    const device = await this.#options.openDevice(settings)
    this.#opened = { device, settings }
    this.#options.log.info("WireGuard is up", {
      device: device.kind,
      address: agent.virtualIp,
      port: device.listenPort
    })
    return device
  }

  /** Returns the problem, so that one tunnel keeps no other one closed. */
  async #tryOpen(device: Device, row: TunnelRow): Promise<NotApplied | undefined> {
    try {
      this.#tunnels.set(row.id, await this.#open(device, row))
      return undefined
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      return error instanceof NotApplied ? error : new NotApplied("tunnel_not_opened", reason, row.id)
    }
  }

  async #open(device: Device, row: TunnelRow): Promise<OpenTunnel> {
    const { clock, dialer, onStatusChange } = this.#options
    const target = parseTarget(row.target)
    if (target === undefined)
      throw new NotApplied("target_invalid", `the target ${row.target} is not host:port`, row.id)
    if (row.protocol === "udp") {
      const tunnel = new UdpTunnel({ target, dialer, clock, onStatusChange })
      await tunnel.open(device, row.port)
      return { row, tunnel, stopListening: () => {} }
    }
    const tunnel = new TcpTunnel({ target, dialer, clock, onStatusChange, quota: this.#quota })
    return { row, tunnel, stopListening: await device.listen(row.port, tunnel.accept) }
  }

  /** Running connections of a tunnel that was removed or changed may end by themselves. */
  #retire(id: string, { stopListening, tunnel }: OpenTunnel): void {
    this.#tunnels.delete(id)
    stopListening()
    tunnel.drain()
    this.#options.clock.after(tunnel.connections === 0 ? 0 : retireMillis, () => tunnel.close())
  }
}

/** A new domain or another option of the gateway needs no new connection to the target. */
const isSameTunnel = (one: TunnelRow, other: TunnelRow): boolean =>
  one.target === other.target && one.port === other.port && (one.protocol === "udp") === (other.protocol === "udp")
