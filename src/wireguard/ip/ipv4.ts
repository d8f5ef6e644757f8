/** IPv4 headers (RFC 791). Pure. */
import { addWords, checksumOf } from "./checksum.ts"

export const headerBytes = 20
export const protocols = { icmp: 1, tcp: 6, udp: 17 } as const

const version4 = 0x45
const dontFragment = 0x4000
const timeToLive = 64

/** The address as a number; -1 for any other text than four decimal numbers. */
export const parseAddress = (text: string): number => {
  const parts = text.split(".")
  let address = 0
  for (const part of parts) {
    const octet = Number(part)
    if (part === "" || !(octet >= 0 && octet <= 255)) return -1
    address = address * 256 + octet
  }
  return parts.length === 4 ? address : -1
}

export const addressText = (address: number): string =>
  `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`

/**
 * Bytes of the header, or 0 if the packet is not accepted: not IPv4, cut off, wrong checksum, or a fragment. `totalBytes` reads the
 * length of an accepted packet.
 */
export const acceptedHeaderBytes = (packet: Buffer): number => {
  if (packet.length < headerBytes || packet[0]! >>> 4 !== 4) return 0
  const bytes = (packet[0]! & 15) * 4
  const total = totalBytes(packet)
  if (bytes < headerBytes || total < bytes || total > packet.length) return 0
  // Offset or "more fragments": tunnels carry no fragments, because each end knows the MTU.
  if ((packet.readUInt16BE(6) & 0x3fff) !== 0) return 0
  return checksumOf(addWords(packet, 0, bytes, 0)) === 0 ? bytes : 0
}

export const totalBytes = (packet: Buffer): number => packet.readUInt16BE(2)

/** Writes a header without options. The identification is 0, because the packet is never fragmented (RFC 6864). */
export const writeHeader = (
  packet: Buffer,
  protocol: number,
  source: number,
  destination: number,
  total: number
): void => {
  packet[0] = version4
  packet[1] = 0
  packet.writeUInt16BE(total, 2)
  packet.writeUInt16BE(0, 4)
  packet.writeUInt16BE(dontFragment, 6)
  packet[8] = timeToLive
  packet[9] = protocol
  packet.writeUInt16BE(0, 10)
  packet.writeUInt32BE(source, 12)
  packet.writeUInt32BE(destination, 16)
  packet.writeUInt16BE(checksumOf(addWords(packet, 0, headerBytes, 0)), 10)
}
