/** Virtual time, a lossy link and two IP stacks on it. One seed gives one run. */
import { type SeededRandom, seededRandom } from "#support/SeededRandom.ts"
import { IpStack, type IpStackOptions } from "#wireguard/ip/IpStack.ts"
import { checkPacket } from "./packets.ts"

/** Faults and speed of the link, the same in both directions. */
export interface Link {
  readonly loss: number
  readonly duplication: number
  /** Milliseconds that every packet takes. */
  readonly delay: number
  /** Longest additional delay. Packets with different delays change their order. */
  readonly jitter: number
  /** Larger packets vanish without an error. */
  readonly maxBytes: number
  /** Bytes per millisecond. */
  readonly rate: number
  /** Packets that would wait longer for their turn are dropped. */
  readonly queueMillis: number
}

export const cleanLink: Link = {
  loss: 0,
  duplication: 0,
  delay: 10,
  jitter: 0,
  maxBytes: Infinity,
  rate: Infinity,
  queueMillis: 100
}

const mtu = 1_280

/** Time between two turns of a program's event loop. */
const turnMillis = 0.05

interface Task {
  readonly at: number
  readonly run: () => void
}

export class IpWorld {
  now = 0
  link: Link = cleanLink
  packets = 0
  readonly random: SeededRandom
  readonly hosts: Array<IpHost> = []
  /** The first packets, as samples. */
  readonly samples: Array<Buffer> = []
  /** The latest task first. */
  #tasks: Array<Task> = []

  constructor(seed: number) {
    this.random = seededRandom(seed, 0)
  }

  random32(): number {
    return Math.floor(this.random.next() * 2 ** 32)
  }

  at(time: number, run: () => void): void {
    let low = 0
    for (let high = this.#tasks.length; low < high;) {
      const middle = (low + high) >> 1
      if (this.#tasks[middle]!.at <= time) high = middle
      else low = middle + 1
    }
    this.#tasks.splice(low, 0, { at: time, run })
  }

  after(millis: number, run: () => void): void {
    this.at(this.now + millis, run)
  }

  /** Runs packets, timers and programs in the order of their times, until `time` or until `isDone`. */
  runUntil(time: number, isDone: () => boolean = () => false): void {
    for (let turn = 0; !isDone(); turn += 1) {
      if (turn > 5_000_000) throw new Error("the stacks never come to rest")
      const task = this.#tasks.at(-1)
      const timer = Math.min(...this.hosts.map((host) => host.nextTimer()))
      const next = Math.min(task?.at ?? Infinity, Math.max(timer, this.now))
      if (next > time) {
        this.now = time
        return
      }
      this.now = Math.max(this.now, next)
      if (task !== undefined && task.at <= next) {
        this.#tasks.pop()
        task.run()
      } else {
        for (const host of this.hosts) host.tick()
      }
    }
  }

  /** Carries a packet to the other host, with the faults of this moment. */
  carry(from: IpHost, packet: Buffer): void {
    checkPacket(packet, mtu)
    this.packets += 1
    if (this.samples.length < 500) this.samples.push(Buffer.from(packet))
    const { delay, duplication, jitter, loss, maxBytes, queueMillis, rate } = this.link
    const to = this.hosts.find((host) => host !== from)!
    if (packet.length > maxBytes) return
    for (let copies = this.random.chance(duplication) ? 2 : 1; copies > 0; copies -= 1) {
      if (this.random.chance(loss)) continue
      const begin = Math.max(this.now, from.linkBusyUntil)
      if (begin - this.now > queueMillis) continue
      from.linkBusyUntil = begin + packet.length / rate
      const copy = Buffer.from(packet)
      this.at(from.linkBusyUntil + delay + this.random.next() * jitter, () => to.receive(copy))
    }
  }
}

/** A machine with one stack. It can be restarted, and its clock can jump ahead. */
export class IpHost {
  readonly world: IpWorld
  readonly address: string
  stack: IpStack
  linkBusyUntil = 0
  /** Number of restarts: programs of an earlier one are gone. */
  life = 0
  #clockOffset = 0
  #isFlushScheduled = false
  readonly #limits: IpStackOptions["limits"]

  constructor(world: IpWorld, address: string, limits: IpStackOptions["limits"] = {}) {
    this.world = world
    this.address = address
    this.#limits = limits
    this.stack = this.#start()
    world.hosts.push(this)
  }

  get now(): number {
    return this.world.now + this.#clockOffset
  }

  receive(packet: Buffer): void {
    this.stack.receive(this.now, packet)
    this.scheduleFlush()
  }

  nextTimer(): number {
    return this.stack.nextTimer() - this.#clockOffset
  }

  tick(): void {
    if (this.stack.nextTimer() > this.now) return
    this.stack.tick(this.now)
    this.scheduleFlush()
  }

  /** As a program does: everything of one turn of the event loop is sent together. */
  scheduleFlush(): void {
    if (this.#isFlushScheduled) return
    this.#isFlushScheduled = true
    this.world.after(turnMillis, () => {
      this.#isFlushScheduled = false
      if (this.stack.flush(this.now)) this.scheduleFlush()
    })
  }

  /** Loses all state. */
  restart(): void {
    this.life += 1
    this.stack = this.#start()
  }

  jump(millis: number): void {
    this.#clockOffset += millis
  }

  #start(): IpStack {
    const stack = new IpStack({
      mtu,
      random32: () => this.world.random32(),
      sendPacket: (packet) => this.world.carry(this, packet),
      ...this.#limits === undefined ? {} : { limits: this.#limits }
    })
    stack.setLocalAddresses([this.address])
    return stack
  }
}

/** Two hosts on one link. */
export const twoHosts = (
  seed: number,
  limits?: IpStackOptions["limits"]
): { readonly world: IpWorld; readonly left: IpHost; readonly right: IpHost } => {
  const world = new IpWorld(seed)
  return { world, left: new IpHost(world, "10.0.0.1", limits), right: new IpHost(world, "10.0.0.2", limits) }
}
