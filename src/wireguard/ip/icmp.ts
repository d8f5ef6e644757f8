/** ICMP (RFC 792): answers to echo requests, and "port unreachable". */
import { addWords, checksumOf } from "./checksum.ts"
import { headerBytes, protocols, writeHeader } from "./ipv4.ts"

const echoReply = 0
const unreachable = 3
const portUnreachable = 3
const echoRequest = 8
const icmpHeaderBytes = 8

/** Answers in one second. More requests are dropped (RFC 1812 section 4.3.2.8). */
const maxAnswersPerSecond = 200

export class Icmp {
  readonly #sendPacket: (packet: Buffer) => void
  #second = 0
  #answers = 0

  constructor(sendPacket: (packet: Buffer) => void) {
    this.#sendPacket = sendPacket
  }

  /** Takes an IPv4 packet with ICMP. Errors about own packets are ignored: TCP finds losses by itself, and UDP has no state. */
  receive(now: number, packet: Buffer, start: number, end: number): void {
    if (end - start < icmpHeaderBytes || packet[start] !== echoRequest || packet[start + 1] !== 0) return
    if (checksumOf(addWords(packet, start, end, 0)) !== 0 || !this.#mayAnswer(now)) return
    const answer = Buffer.allocUnsafe(headerBytes + end - start)
    writeHeader(answer, protocols.icmp, packet.readUInt32BE(16), packet.readUInt32BE(12), answer.length)
    packet.copy(answer, headerBytes, start, end)
    answer[headerBytes] = echoReply
    this.#finish(answer)
  }

  /** Reports to the sender of a datagram that no program has its port (RFC 1122 section 4.1.3.1). */
  portUnreachable(now: number, packet: Buffer, start: number): void {
    if (!this.#mayAnswer(now)) return
    const quoted = Math.min(packet.length, start + 8)
    const answer = Buffer.alloc(headerBytes + icmpHeaderBytes + quoted)
    writeHeader(answer, protocols.icmp, packet.readUInt32BE(16), packet.readUInt32BE(12), answer.length)
    answer[headerBytes] = unreachable
    answer[headerBytes + 1] = portUnreachable
    packet.copy(answer, headerBytes + icmpHeaderBytes, 0, quoted)
    this.#finish(answer)
  }

  #mayAnswer(now: number): boolean {
    const second = Math.floor(now / 1_000)
    if (second !== this.#second) {
      this.#second = second
      this.#answers = 0
    }
    this.#answers += 1
    return this.#answers <= maxAnswersPerSecond
  }

  #finish(answer: Buffer): void {
    answer.writeUInt16BE(0, headerBytes + 2)
    answer.writeUInt16BE(checksumOf(addWords(answer, headerBytes, answer.length, 0)), headerBytes + 2)
    this.#sendPacket(answer)
  }
}
