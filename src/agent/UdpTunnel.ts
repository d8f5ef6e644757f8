/** A tunnel for UDP at the agent: one socket toward the target for each visitor's flow. */
import type { Clock, Timer } from "#processes/clock.ts"
import type { Device, TunnelUdpSocket } from "#wireguard/Device.ts"
import { createSocket, type Socket } from "node:dgram"
import { lookup } from "node:dns"
import { type Dialer, dialProblem, type Target } from "./dialTarget.ts"
import type { Status } from "./TargetStatus.ts"

/** A flow without datagrams in either direction is forgotten after this time. */
const idleMillis = 60_000
const sweepIntervalMillis = 10_000

/** Flows of one tunnel. The flow that was idle for the longest time makes room for a new one. */
const maxFlows = 4_096

/** Datagrams that wait while the target's name is resolved. */
const maxWaiting = 16

interface Flow {
  readonly key: string
  readonly gateway: { readonly address: string; readonly port: number }
  socket: Socket | undefined
  waiting: Array<Buffer>
  lastActivity: number
}

export interface UdpTunnelOptions {
  readonly target: Target
  readonly dialer: Dialer
  readonly clock: Clock
  readonly onStatusChange: () => void
}

export class UdpTunnel {
  readonly #options: UdpTunnelOptions
  /** By the gateway's address and port, in the order of the last activity. */
  readonly #flows = new Map<string, Flow>()
  #tunnel: TunnelUdpSocket | undefined
  #status: Status = { status: "active", detail: undefined }
  #timer: Timer | undefined
  #isClosed = false

  constructor(options: UdpTunnelOptions) {
    this.#options = options
    this.#scheduleSweep()
  }

  get status(): Status {
    return this.#status
  }

  get connections(): number {
    return this.#flows.size
  }

  async open(device: Device, port: number): Promise<void> {
    this.#tunnel = await device.bindUdp(port, (payload, from) => this.#receive(payload, from))
    if (this.#isClosed) this.#tunnel.close()
  }

  /** UDP has no connections that could end by themselves. */
  drain(): void {}

  close(): void {
    this.#isClosed = true
    this.#timer?.cancel()
    this.#tunnel?.close()
    for (const flow of this.#flows.values()) this.#forget(flow)
  }

  #receive(payload: Buffer, gateway: Flow["gateway"]): void {
    if (this.#isClosed) return
    const key = `${gateway.address} ${gateway.port}`
    const flow = this.#flows.get(key) ?? this.#begin(key, gateway)
    this.#active(flow)
    if (flow.socket !== undefined) flow.socket.send(payload.subarray(), ignoreError)
    // The payload is valid during this call only.
    else if (flow.waiting.length < maxWaiting) flow.waiting.push(Buffer.from(payload))
  }

  #begin(key: string, gateway: Flow["gateway"]): Flow {
    const [oldest] = this.#flows.values()
    if (oldest !== undefined && this.#flows.size >= maxFlows) this.#forget(oldest)
    const flow: Flow = { key, gateway, socket: undefined, waiting: [], lastActivity: 0 }
    this.#flows.set(key, flow)
    const { dialer, target: { host, port } } = this.#options
    lookup(host, (error, address, family) => {
      if (this.#flows.get(key) !== flow) return
      const problem = error ?? dialer.refusal(address, port)
      if (problem !== undefined) return this.#fail(flow, dialProblem(problem))
      this.#connect(flow, address, family === 6 ? "udp6" : "udp4")
    })
    return flow
  }

  #connect(flow: Flow, address: string, type: "udp4" | "udp6"): void {
    const socket = createSocket(type)
    socket.on("error", (error) => this.#fail(flow, dialProblem(error)))
    socket.on("message", (payload) => {
      this.#active(flow)
      this.#setStatus({ status: "active", detail: undefined })
      this.#tunnel?.send(payload, flow.gateway)
    })
    socket.connect(this.#options.target.port, address, () => {
      if (this.#flows.get(flow.key) !== flow) return void socket.close()
      flow.socket = socket
      for (const payload of flow.waiting.splice(0)) socket.send(payload, ignoreError)
    })
  }

  #fail(flow: Flow, problem: string): void {
    this.#setStatus({ status: "target-unreachable", detail: problem })
    this.#forget(flow)
  }

  #setStatus(status: Status): void {
    const isNews = status.status !== this.#status.status || status.detail !== this.#status.detail
    this.#status = status
    if (isNews && !this.#isClosed) this.#options.onStatusChange()
  }

  #active(flow: Flow): void {
    flow.lastActivity = this.#options.clock.monotonic()
    this.#flows.delete(flow.key)
    this.#flows.set(flow.key, flow)
  }

  #forget(flow: Flow): void {
    this.#flows.delete(flow.key)
    flow.waiting = []
    const { socket } = flow
    flow.socket = undefined
    if (socket !== undefined) socket.close()
  }

  #scheduleSweep(): void {
    const { clock } = this.#options
    this.#timer = clock.after(sweepIntervalMillis, () => {
      const oldest = clock.monotonic() - idleMillis
      for (const flow of this.#flows.values()) {
        if (flow.lastActivity > oldest) break
        this.#forget(flow)
      }
      this.#scheduleSweep()
    })
  }
}

/** A socket reports an unreachable target by its `error` event, too. */
const ignoreError = () => {}
