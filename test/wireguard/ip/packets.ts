/** IPv4 packets of tests, written and read independently of the stack. */
import { assert } from "@effect/vitest"

export const fin = 1
export const syn = 2
export const rst = 4
export const psh = 8
export const ack = 16

/** RFC 1071, in its plainest form. */
const checksum = (bytes: Buffer): number => {
  let sum = 0
  for (let at = 0; at < bytes.length; at += 2) sum += bytes[at]! * 256 + (bytes[at + 1] ?? 0)
  while (sum > 0xffff) sum = (sum % 65_536) + Math.floor(sum / 65_536)
  return 0xffff - sum
}

const octets = (address: string) => address.split(".").map(Number)

const pseudoHeader = (packet: Buffer, headerBytes: number) => {
  const length = packet.length - headerBytes
  return Buffer.from([...packet.subarray(12, 20), 0, packet[9]!, length >> 8, length & 255])
}

/** Sets the checksums of a packet whose lengths make sense. Returns the packet. */
export const sealPacket = (packet: Buffer): Buffer => {
  const headerBytes = (packet[0]! & 15) * 4
  if (headerBytes < 20 || packet.length < headerBytes + 8) return packet
  packet.writeUInt16BE(0, 10)
  packet.writeUInt16BE(checksum(packet.subarray(0, headerBytes)), 10)
  const at = packet[9] === 6 ? 16 : packet[9] === 17 ? 6 : 2
  if (packet.length < headerBytes + at + 2) return packet
  const prefix = packet[9] === 1 ? Buffer.alloc(0) : pseudoHeader(packet, headerBytes)
  packet.writeUInt16BE(0, headerBytes + at)
  packet.writeUInt16BE(checksum(Buffer.concat([prefix, packet.subarray(headerBytes)])), headerBytes + at)
  return packet
}

export const ipv4 = (protocol: number, from: string, to: string, body: Buffer): Buffer => {
  const header = Buffer.alloc(20)
  header[0] = 0x45
  header.writeUInt16BE(20 + body.length, 2)
  header[8] = 64
  header[9] = protocol
  header.set(octets(from), 12)
  header.set(octets(to), 16)
  return sealPacket(Buffer.concat([header, body]))
}

export interface TcpFields {
  readonly from: string
  readonly fromPort: number
  readonly to: string
  readonly toPort: number
  readonly sequence: number
  readonly acknowledgement: number
  readonly flags: number
  readonly window: number
  readonly options?: ReadonlyArray<number>
  readonly payload?: Buffer
}

export const tcpPacket = (fields: TcpFields): Buffer => {
  const options = Buffer.from(fields.options ?? [])
  const header = Buffer.alloc(20)
  header.writeUInt16BE(fields.fromPort, 0)
  header.writeUInt16BE(fields.toPort, 2)
  header.writeUInt32BE(fields.sequence >>> 0, 4)
  header.writeUInt32BE(fields.acknowledgement >>> 0, 8)
  header[12] = ((20 + options.length) / 4) << 4
  header[13] = fields.flags
  header.writeUInt16BE(fields.window, 14)
  return ipv4(6, fields.from, fields.to, Buffer.concat([header, options, fields.payload ?? Buffer.alloc(0)]))
}

export interface ReadTcp {
  readonly toPort: number
  readonly fromPort: number
  readonly sequence: number
  readonly acknowledgement: number
  readonly flags: number
  readonly window: number
  readonly options: Buffer
  readonly payload: Buffer
}

export const readTcp = (packet: Buffer): ReadTcp => {
  assert.strictEqual(packet[9], 6)
  const payloadAt = 20 + (packet[32]! >> 4) * 4
  return {
    fromPort: packet.readUInt16BE(20),
    toPort: packet.readUInt16BE(22),
    sequence: packet.readUInt32BE(24),
    acknowledgement: packet.readUInt32BE(28),
    flags: packet[33]!,
    window: packet.readUInt16BE(34),
    options: Buffer.from(packet.subarray(40, payloadAt)),
    payload: Buffer.from(packet.subarray(payloadAt))
  }
}

export const udpPacket = (
  from: string,
  fromPort: number,
  to: string,
  toPort: number,
  payload: Buffer
): Buffer => {
  const header = Buffer.alloc(8)
  header.writeUInt16BE(fromPort, 0)
  header.writeUInt16BE(toPort, 2)
  header.writeUInt16BE(8 + payload.length, 4)
  return ipv4(17, from, to, Buffer.concat([header, payload]))
}

/** Fails if a packet of a stack is larger than the MTU, or has a wrong length or checksum. */
export const checkPacket = (packet: Buffer, mtu: number): void => {
  if (packet.length > mtu) assert.fail(`a packet of ${packet.length} bytes exceeds the MTU of ${mtu}`)
  if (packet[0] !== 0x45 || packet.readUInt16BE(2) !== packet.length) assert.fail("a packet has a wrong header")
  if (checksum(packet.subarray(0, 20)) !== 0) assert.fail("a header has a wrong checksum")
  const prefix = packet[9] === 1 ? Buffer.alloc(0) : pseudoHeader(packet, 20)
  if (checksum(Buffer.concat([prefix, packet.subarray(20)])) !== 0) assert.fail("a packet has a wrong checksum")
}
