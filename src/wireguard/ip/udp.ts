/** UDP (RFC 768) over IPv4: ports and datagrams. */
import { addWords, checksumOf, pseudoHeaderSum } from "./checksum.ts"
import { addressText, headerBytes, protocols, writeHeader } from "./ipv4.ts"

const udpHeaderBytes = 8
const firstEphemeralPort = 32_768
const maxPortAttempts = 256

/** Receives a payload, whose buffer the callback may keep. */
export type OnUdp = (
  payload: Buffer,
  from: { readonly address: string; readonly port: number },
  localAddress: string
) => void

export interface UdpCounters {
  /** Payloads that do not fit into one packet. They are dropped, because tunnels carry no fragments. */
  tooLarge: number
  /** Datagrams to a port that no program has. */
  unknown: number
}

export class UdpEndpoints {
  readonly counters: UdpCounters = { tooLarge: 0, unknown: 0 }
  readonly #mtu: number
  readonly #random32: () => number
  readonly #sendPacket: (packet: Buffer) => void
  readonly #ports = new Map<number, OnUdp>()
  readonly #buffer = Buffer.alloc(65_536)

  constructor(mtu: number, random32: () => number, sendPacket: (packet: Buffer) => void) {
    this.#mtu = mtu
    this.#random32 = random32
    this.#sendPacket = sendPacket
  }

  /** Returns the port; 0 asks for a free one. Throws if the port is in use. */
  bind(port: number, onDatagram: OnUdp): number {
    const chosen = port === 0 ? this.#freePort() : port
    if (chosen === undefined || this.#ports.has(chosen)) throw new Error(`UDP port ${chosen ?? ""} is in use`)
    this.#ports.set(chosen, onDatagram)
    return chosen
  }

  close(port: number): void {
    this.#ports.delete(port)
  }

  /** Returns false if no program has the port. */
  receive(packet: Buffer, start: number, end: number): boolean {
    if (end - start < udpHeaderBytes) return true
    const length = packet.readUInt16BE(start + 4)
    if (length < udpHeaderBytes || start + length > end) return true
    // A checksum of 0 means that the sender has made none.
    if (
      packet.readUInt16BE(start + 6) !== 0 &&
      checksumOf(addWords(packet, start, start + length, pseudoHeaderSum(packet, protocols.udp, length))) !== 0
    ) return true
    const onDatagram = this.#ports.get(packet.readUInt16BE(start + 2))
    if (onDatagram === undefined) {
      this.counters.unknown += 1
      return false
    }
    onDatagram(
      packet.subarray(start + udpHeaderBytes, start + length),
      { address: addressText(packet.readUInt32BE(12)), port: packet.readUInt16BE(start) },
      addressText(packet.readUInt32BE(16))
    )
    return true
  }

  send(payload: Uint8Array, source: number, sourcePort: number, destination: number, destinationPort: number): void {
    const length = udpHeaderBytes + payload.length
    if (headerBytes + length > this.#mtu) {
      this.counters.tooLarge += 1
      return
    }
    const packet = this.#buffer
    writeHeader(packet, protocols.udp, source, destination, headerBytes + length)
    packet.writeUInt16BE(sourcePort, 20)
    packet.writeUInt16BE(destinationPort, 22)
    packet.writeUInt16BE(length, 24)
    packet.writeUInt16BE(0, 26)
    packet.set(payload, 28)
    const checksum = checksumOf(
      addWords(packet, headerBytes, headerBytes + length, pseudoHeaderSum(packet, protocols.udp, length))
    )
    packet.writeUInt16BE(checksum === 0 ? 0xffff : checksum, 26)
    this.#sendPacket(packet.subarray(0, headerBytes + length))
  }

  #freePort(): number | undefined {
    for (let attempt = 0; attempt < maxPortAttempts; attempt += 1) {
      const port = firstEphemeralPort + this.#random32() % (65_536 - firstEphemeralPort)
      if (!this.#ports.has(port)) return port
    }
    return undefined
  }
}
