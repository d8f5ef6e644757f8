/** Mutated IPv4 packets for a stack that has connections, a listener and a UDP port. */
import { mutateBytes } from "#support/clientHellos.ts"
import { type SeededRandom, seededRandom } from "#support/SeededRandom.ts"
import { addWords, checksumOf, pseudoHeaderSum } from "#wireguard/ip/checksum.ts"
import { IpStack, type TcpHandlers } from "#wireguard/ip/IpStack.ts"

const peer = "10.0.0.1"
const address = "10.0.0.2"
const limits = { maxConnections: 200, maxPending: 100, maxPendingPerAddress: 50, maxMemoryBytes: 2 * 1024 * 1024 }
const silent: TcpHandlers = { onConnect() {}, onData() {}, onEnd() {}, onDrain() {}, onClose() {} }

/** Sets the checksums, so that the mutated fields are read. */
const seal = (packet: Buffer): Buffer => {
  const at = packet[9] === 6 ? 16 : packet[9] === 17 ? 6 : 2
  if (packet.length < 20 + at + 2) return packet
  packet[0] = 0x45
  packet.writeUInt16BE(packet.length, 2)
  packet.writeUInt16BE(0, 10)
  packet.writeUInt16BE(checksumOf(addWords(packet, 0, 20, 0)), 10)
  const pseudo = packet[9] === 1 ? 0 : pseudoHeaderSum(packet, packet[9]!, packet.length - 20)
  packet.writeUInt16BE(0, 20 + at)
  packet.writeUInt16BE(checksumOf(addWords(packet, 20, packet.length, pseudo)), 20 + at)
  return packet
}

export class IpPackets {
  #now = 0
  #answers = 0
  #connections = 0
  readonly #stack: IpStack
  readonly #other: IpStack
  /** Packets from the peer, each as it was sent. */
  #samples: Array<Buffer> = []

  constructor() {
    const { int } = seededRandom(1, 1)
    const random32 = () => int(2 ** 32)
    this.#stack = new IpStack({ mtu: 1_280, limits, random32, sendPacket: (packet) => this.#answer(packet) })
    this.#other = new IpStack({ mtu: 1_280, limits, random32, sendPacket: (packet) => this.#sample(packet) })
    this.#stack.setLocalAddresses([address])
    this.#other.setLocalAddresses([peer])
    this.#stack.tcpListen(20_000, (incoming) => {
      const connection = incoming.accept(this.#now, {
        ...silent,
        onData: (bytes) => void connection.write(bytes),
        onEnd: () => connection.end()
      })
    })
    this.#stack.udpBind(53, () => {})
    this.#other.udpBind(54, () => {}).send(Buffer.alloc(100), peer, { address, port: 53 })
  }

  input(seed: number, index: number): Buffer {
    if (index % 500 === 0) this.#openConnection()
    const random: SeededRandom = seededRandom(seed, index)
    const mutated = mutateBytes(Buffer.from(random.pick(this.#samples)), random)
    return random.chance(0.7) ? seal(mutated) : mutated
  }

  /** Returns `dropped`, `answered` or `silent`. Throws if a bound is exceeded. */
  check(packet: Buffer): string {
    this.#now += 1
    const { dropped } = this.#stack.counters
    this.#answers = 0
    this.#stack.receive(this.#now, packet)
    this.#stack.flush(this.#now)
    if (this.#stack.nextTimer() <= this.#now) this.#stack.tick(this.#now)
    const { connections, dropped: droppedNow, memoryBytes } = this.#stack.counters
    if (connections > limits.maxConnections + 4_096) throw new Error(`${connections} connections`)
    if (memoryBytes > 2 * limits.maxMemoryBytes) throw new Error(`${memoryBytes} bytes in buffers`)
    if (droppedNow > dropped) return "dropped"
    return this.#answers > 0 ? "answered" : "silent"
  }

  /** A connection with data whose numbers are those of the newest samples. */
  #openConnection(): void {
    this.#stack.closeConnectionsTo(peer)
    this.#other.closeConnectionsTo(address)
    this.#samples = this.#samples.slice(-100)
    this.#connections += 1
    const to = { localAddress: peer, address, port: 20_000 }
    const connection = this.#other.tcpConnect(this.#now, to, silent)
    connection?.write(Buffer.alloc(5_000, this.#connections))
    for (let turn = 0; turn < 8; turn += 1) {
      this.#other.flush(this.#now)
      this.#stack.flush(this.#now)
    }
  }

  #sample(packet: Buffer): void {
    this.#samples.push(Buffer.from(packet))
    const copy = Buffer.from(packet)
    this.#stack.receive(this.#now, copy)
  }

  #answer(packet: Buffer): void {
    this.#answers += 1
    this.#other.receive(this.#now, Buffer.from(packet))
  }
}
