/** Encoder of PROXY headers, versions 1 and 2 (haproxy.org, proxy-protocol.txt). Pure. */
import { parseIpv4, parseIpv6 } from "#schema/addresses.ts"
import type { TcpEnd, TcpEnds } from "./TcpEnds.ts"

/** The header that precedes the first byte of a forwarded connection. */
export const encodeHeader = (version: "v1" | "v2", ends: TcpEnds): Buffer =>
  version === "v1" ? headerV1(sameFamily(ends)) : headerV2(sameFamily(ends))

/** Ends of one family, because a header has one family. */
interface Ends extends TcpEnds {
  readonly isIpv6: boolean
}

/** An IPv4 address that meets an IPv6 address takes its IPv4-mapped form (RFC 4291, 2.5.5.2). */
function sameFamily({ destination, source }: TcpEnds): Ends {
  const isIpv6 = source.address.includes(":") || destination.address.includes(":")
  const mapped = (end: TcpEnd) =>
    isIpv6 && !end.address.includes(":") ? { address: `::ffff:${end.address}`, port: end.port } : end
  return { isIpv6, source: mapped(source), destination: mapped(destination) }
}

function headerV1({ destination, isIpv6, source }: Ends): Buffer {
  const family = isIpv6 ? "TCP6" : "TCP4"
  const ports = `${source.port} ${destination.port}`
  return Buffer.from(`PROXY ${family} ${source.address} ${destination.address} ${ports}\r\n`, "latin1")
}

const v2Signature = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1")
/** Version 2, command PROXY. */
const v2Proxy = 0x21
const tcpOverIpv4 = 0x11
const tcpOverIpv6 = 0x21

function headerV2({ destination, isIpv6, source }: Ends): Buffer {
  const addressBytes = isIpv6 ? 16 : 4
  const content = 2 * addressBytes + 4
  const header = Buffer.alloc(v2Signature.length + 4 + content)
  v2Signature.copy(header)
  header[12] = v2Proxy
  header[13] = isIpv6 ? tcpOverIpv6 : tcpOverIpv4
  header.writeUInt16BE(content, 14)
  writeAddress(header, 16, source.address)
  writeAddress(header, 16 + addressBytes, destination.address)
  header.writeUInt16BE(source.port, 16 + 2 * addressBytes)
  header.writeUInt16BE(destination.port, 18 + 2 * addressBytes)
  return header
}

function writeAddress(header: Buffer, offset: number, address: string): void {
  if (address.includes(":"))
    parseIpv6(address)?.forEach((group, index) => header.writeUInt16BE(group, offset + 2 * index))
  else parseIpv4(address)?.forEach((octet, index) => header.writeUInt8(octet, offset + index))
}
