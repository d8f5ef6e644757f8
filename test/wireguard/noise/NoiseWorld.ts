/** Virtual time, a lossy network and WireGuard machines on it. One seed gives one run. */
import { type SeededRandom, seededRandom } from "#support/SeededRandom.ts"
import type { Endpoint } from "#wireguard/Device.ts"
import {
  WireGuard,
  type WireGuardEvent,
  type WireGuardOptions,
  type WireGuardPeer
} from "#wireguard/noise/WireGuard.ts"

/** Faults of every link. */
export interface Trouble {
  loss: number
  duplication: number
  /** Longest delay in milliseconds. Datagrams with different delays change their order. */
  maxDelay: number
}

export const noTrouble: Trouble = { loss: 0, duplication: 0, maxDelay: 20 }

interface Task {
  readonly at: number
  readonly order: number
  readonly run: () => void
}

export class NoiseWorld {
  now = 0
  trouble: Trouble = noTrouble
  readonly random: SeededRandom
  readonly machines: Array<Machine> = []
  readonly datagrams: Array<{ readonly at: number; readonly from: string; readonly datagram: Buffer }> = []
  #tasks: Array<Task> = []
  #order = 0

  constructor(seed: number) {
    this.random = seededRandom(seed, 0)
  }

  randomBytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.random.int(256)))
  }

  at(time: number, run: () => void): void {
    this.#order += 1
    const task = { at: time, order: this.#order, run }
    let low = 0
    for (let high = this.#tasks.length; low < high;) {
      const middle = (low + high) >> 1
      if (this.#tasks[middle]!.at <= time) high = middle
      else low = middle + 1
    }
    this.#tasks.splice(low, 0, task)
  }

  /** Runs everything until `time`: datagrams and timers of the machines in the order of their times. */
  runUntil(time: number): void {
    for (let turn = 0;; turn += 1) {
      if (turn > 2_000_000) throw new Error("the machines never come to rest")
      const task = this.#tasks.at(-1)
      const timer = Math.min(...this.machines.map((machine) => machine.nextTimer()))
      const next = Math.min(task?.at ?? Infinity, Math.max(timer, this.now))
      if (next > time) break
      this.now = Math.max(this.now, next)
      if (task !== undefined && task.at <= next) {
        this.#tasks.pop()
        task.run()
      } else {
        for (const machine of this.machines) machine.tick()
      }
    }
    this.now = time
  }

  /** Carries a datagram, with the trouble of this moment. */
  carry(from: Machine, datagram: Buffer, to: Endpoint): void {
    const { duplication, loss, maxDelay } = this.trouble
    const source = from.endpoint
    if (this.datagrams.length < 1_000)
      this.datagrams.push({ at: this.now, from: from.name, datagram: Buffer.from(datagram) })
    for (let copies = this.random.chance(duplication) ? 2 : 1; copies > 0; copies -= 1) {
      if (this.random.chance(loss)) continue
      const copy = Buffer.from(datagram)
      this.at(this.now + 1 + this.random.next() * maxDelay, () => {
        const receiver = this.machines.find(({ endpoint }) => endpoint.host === to.host && endpoint.port === to.port)
        receiver?.receive(copy, source)
      })
    }
  }
}

/** A WireGuard end with its clocks. It can be restarted and can change its address. */
export class Machine {
  readonly name: string
  readonly world: NoiseWorld
  readonly address: string
  endpoint: Endpoint
  wireguard: WireGuard
  /** Wall clock minus virtual time. */
  wallOffset = 1_700_000_000_000
  /** Monotonic clock minus virtual time: a suspended machine runs on without it. */
  monotonicOffset = 0
  /** The wall clock at its furthest. */
  latestWallOffset = this.wallOffset
  isSuspended = false
  /** Monotonic time at which the machine was suspended. */
  suspendedAt = 0
  /** Numbers of received packets. */
  readonly received: Array<number> = []
  readonly events: Array<WireGuardEvent> = []
  readonly #options: Omit<WireGuardOptions, "random" | "wall" | "sendDatagram" | "receivePacket">
  #peers: ReadonlyArray<WireGuardPeer> = []

  constructor(
    world: NoiseWorld,
    name: string,
    address: string,
    endpoint: Endpoint,
    options: Partial<WireGuardOptions> = {}
  ) {
    this.world = world
    this.name = name
    this.address = address
    this.endpoint = endpoint
    this.#options = { privateKey: world.randomBytes(32).toString("base64"), ...options }
    this.wireguard = this.#start()
    world.machines.push(this)
  }

  get now(): number {
    return this.world.now + this.monotonicOffset
  }

  get handshakes(): number {
    return this.events.filter(({ type }) => type === "handshakeCompleted").length
  }

  peer(other: Machine, endpoint: Endpoint | undefined, keepaliveSeconds: number): WireGuardPeer {
    return { publicKey: other.wireguard.publicKey, address: other.address, endpoint, keepaliveSeconds }
  }

  setPeers(...peers: ReadonlyArray<WireGuardPeer>): void {
    this.#peers = peers
    this.wireguard.setPeers(this.now, peers)
  }

  /** Loses all state but the configuration. */
  restart(): void {
    this.wireguard = this.#start()
    this.wireguard.setPeers(this.now, this.#peers)
  }

  receive(datagram: Buffer, from: Endpoint): void {
    if (!this.isSuspended) this.wireguard.receive(this.now, datagram, from)
  }

  nextTimer(): number {
    return this.isSuspended ? Infinity : this.wireguard.nextTimer() - this.monotonicOffset
  }

  tick(): void {
    if (!this.isSuspended && this.wireguard.nextTimer() <= this.now) this.wireguard.tick(this.now)
  }

  send(to: Machine, number: number, length = 60): void {
    if (!this.isSuspended) this.wireguard.send(this.now, ipv4Packet(this.address, to.address, number, length))
  }

  #start(): WireGuard {
    return new WireGuard({
      ...this.#options,
      random: (bytes) => this.world.randomBytes(bytes),
      wall: () => this.world.now + this.wallOffset,
      sendDatagram: (datagram, to) => this.world.carry(this, datagram, to),
      receivePacket: (packet) => this.received.push(packet.readUInt32BE(20)),
      onEvent: (event) => this.events.push(event)
    })
  }
}

/** IPv4 packet that carries a number. */
export const ipv4Packet = (from: string, to: string, number: number, length = 60): Buffer => {
  const packet = Buffer.alloc(length)
  packet[0] = 0x45
  packet.writeUInt16BE(length, 2)
  packet.set(from.split(".").map(Number), 12)
  packet.set(to.split(".").map(Number), 16)
  packet.writeUInt32BE(number, 20)
  return packet
}

/** An agent behind NAT that dials a gateway, as Control configures them. */
export const agentAndGateway = (
  world: NoiseWorld,
  keepaliveSeconds = 25,
  gatewayOptions: Partial<WireGuardOptions> = {}
): { readonly agent: Machine; readonly gateway: Machine } => {
  const agent = new Machine(world, "agent", "10.0.0.2", { host: "198.51.100.7", port: 40_000 })
  const gateway = new Machine(world, "gateway", "10.0.0.1", { host: "203.0.113.1", port: 51_820 }, gatewayOptions)
  gateway.setPeers(gateway.peer(agent, undefined, 0))
  agent.setPeers(agent.peer(gateway, gateway.endpoint, keepaliveSeconds))
  return { agent, gateway }
}
