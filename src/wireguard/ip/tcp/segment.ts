/** TCP segments on the wire (RFC 9293 section 3.1, RFC 7323 window scale, RFC 2018 SACK). Pure. */
import { addWords, checksumOf, pseudoHeaderSum } from "#wireguard/ip/checksum.ts"
import { headerBytes as ipHeaderBytes, protocols, writeHeader } from "#wireguard/ip/ipv4.ts"

export const flags = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const

const tcpHeaderBytes = 20

/** MSS of a peer that sends no option (RFC 9293 section 3.7.1). */
export const defaultMss = 536

/** A larger shift is read as this one (RFC 7323 section 2.3). */
const maxShift = 14

/** Blocks of a SACK option without timestamps. */
const maxSackBlocks = 4

/** A parsed segment. One object is reused for every packet. */
export class Segment {
  source = 0
  destination = 0
  sourcePort = 0
  destinationPort = 0
  sequence = 0
  acknowledgement = 0
  flags = 0
  /** The window as sent, before scaling. */
  window = 0
  /** Options of a SYN: 0 or -1 without the option. */
  mss = 0
  windowShift = -1
  isSackPermitted = false
  /** Left and right edges of SACK blocks, `sackCount` pairs. */
  readonly sack = new Uint32Array(2 * maxSackBlocks)
  sackCount = 0
  packet: Buffer = Buffer.alloc(0)
  payloadStart = 0
  payloadEnd = 0

  get payloadLength(): number {
    return this.payloadEnd - this.payloadStart
  }

  /** Reads an IPv4 packet whose header has been accepted. Returns false if it holds no intact segment. */
  read(packet: Buffer, start: number, end: number): boolean {
    if (end - start < tcpHeaderBytes) return false
    const payloadStart = start + (packet[start + 12]! >>> 4) * 4
    if (payloadStart < start + tcpHeaderBytes || payloadStart > end) return false
    if (checksumOf(addWords(packet, start, end, pseudoHeaderSum(packet, protocols.tcp, end - start))) !== 0)
      return false
    this.packet = packet
    this.source = packet.readUInt32BE(12)
    this.destination = packet.readUInt32BE(16)
    this.sourcePort = packet.readUInt16BE(start)
    this.destinationPort = packet.readUInt16BE(start + 2)
    this.sequence = packet.readUInt32BE(start + 4)
    this.acknowledgement = packet.readUInt32BE(start + 8)
    this.flags = packet[start + 13]!
    this.window = packet.readUInt16BE(start + 14)
    this.payloadStart = payloadStart
    this.payloadEnd = end
    this.sackCount = 0
    this.mss = 0
    this.windowShift = -1
    this.isSackPermitted = false
    if (payloadStart > start + tcpHeaderBytes) this.#readOptions(start + tcpHeaderBytes, payloadStart)
    return true
  }

  #readOptions(from: number, to: number): void {
    const { packet } = this
    for (let at = from; at < to;) {
      const kind = packet[at]!
      if (kind === 0) return
      if (kind === 1) {
        at += 1
        continue
      }
      const length = at + 1 < to ? packet[at + 1]! : 0
      if (length < 2 || at + length > to) return
      if (kind === 2 && length === 4) this.mss = packet.readUInt16BE(at + 2)
      else if (kind === 3 && length === 3) this.windowShift = Math.min(maxShift, packet[at + 2]!)
      else if (kind === 4 && length === 2) this.isSackPermitted = true
      else if (kind === 5) this.#readSack(at + 2, length - 2)
      at += length
    }
  }

  #readSack(at: number, length: number): void {
    const count = Math.min(maxSackBlocks, length >> 3)
    for (let word = 0; word < 2 * count; word += 1) this.sack[word] = this.packet.readUInt32BE(at + 4 * word)
    this.sackCount = count
  }
}

/** Addresses and ports of a connection, seen from this end. */
export interface Ends {
  readonly localAddress: number
  readonly localPort: number
  readonly remoteAddress: number
  readonly remotePort: number
}

/** Options of a SYN: the own MSS, and what the peer can use. */
export interface SynOptions {
  readonly mss: number
  /** -1 omits the option. */
  readonly windowShift: number
  readonly isSackPermitted: boolean
}

const noBlocks: ReadonlyArray<number> = []

/** Writes segments into one buffer, which is valid until the next segment. */
export class SegmentWriter {
  readonly #buffer = Buffer.alloc(65_536)
  readonly #send: (packet: Buffer) => void
  sent = 0

  constructor(send: (packet: Buffer) => void) {
    this.#send = send
  }

  /** The place of the payload in the buffer, for a segment with this many SACK blocks. */
  payloadAt(sackBlocks: number): number {
    return ipHeaderBytes + tcpHeaderBytes + sackOptionBytes(sackBlocks)
  }

  /** The buffer, into which the caller copies the payload before `send`. */
  get buffer(): Buffer {
    return this.#buffer
  }

  /** Sends a segment whose payload is in its place already. `blocks`: edges of SACK blocks as sequence numbers. */
  send(
    ends: Ends,
    sequence: number,
    acknowledgement: number,
    flagBits: number,
    window: number,
    payloadLength: number,
    blocks: ReadonlyArray<number> = noBlocks
  ): void {
    const buffer = this.#buffer
    const options = sackOptionBytes(blocks.length / 2)
    if (options > 0) {
      buffer[40] = 1
      buffer[41] = 1
      buffer[42] = 5
      buffer[43] = 2 + 4 * blocks.length
      for (let index = 0; index < blocks.length; index += 1) buffer.writeUInt32BE(blocks[index]! >>> 0, 44 + 4 * index)
    }
    this.#finish(ends, sequence, acknowledgement, flagBits, window, options, payloadLength)
  }

  sendSyn(
    ends: Ends,
    sequence: number,
    acknowledgement: number,
    flagBits: number,
    window: number,
    { isSackPermitted, mss, windowShift }: SynOptions
  ): void {
    const options = [2, 4, mss >> 8, mss & 255]
    if (windowShift >= 0) options.push(1, 3, 3, windowShift)
    if (isSackPermitted) options.push(1, 1, 4, 2)
    for (const [index, byte] of options.entries()) this.#buffer[40 + index] = byte
    this.#finish(ends, sequence, acknowledgement, flagBits, window, options.length, 0)
  }

  #finish(
    ends: Ends,
    sequence: number,
    acknowledgement: number,
    flagBits: number,
    window: number,
    options: number,
    payloadLength: number
  ): void {
    const buffer = this.#buffer
    const total = ipHeaderBytes + tcpHeaderBytes + options + payloadLength
    writeHeader(buffer, protocols.tcp, ends.localAddress, ends.remoteAddress, total)
    buffer.writeUInt16BE(ends.localPort, 20)
    buffer.writeUInt16BE(ends.remotePort, 22)
    buffer.writeUInt32BE(sequence >>> 0, 24)
    buffer.writeUInt32BE(acknowledgement >>> 0, 28)
    buffer[32] = ((tcpHeaderBytes + options) / 4) << 4
    buffer[33] = flagBits
    buffer.writeUInt16BE(window, 34)
    buffer.writeUInt32BE(0, 36)
    const sum = addWords(buffer, ipHeaderBytes, total, pseudoHeaderSum(buffer, protocols.tcp, total - ipHeaderBytes))
    buffer.writeUInt16BE(checksumOf(sum), 36)
    this.sent += 1
    this.#send(buffer.subarray(0, total))
  }
}

const sackOptionBytes = (blocks: number): number => blocks === 0 ? 0 : 4 + 8 * blocks
