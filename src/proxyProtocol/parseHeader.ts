/**
 * Parses headers of HAProxy's PROXY protocol, versions 1 and 2 (proxy-protocol.txt). Pure.
 *
 * A TCP load balancer sends this header first and names the client whose connection it forwards.
 */
import { ipVersion } from "#schema/addresses.ts"
import { canonicalAddress } from "./canonicalAddress.ts"
import type { TcpEnd, TcpEnds } from "./TcpEnds.ts"

/** Result of parsing the first bytes of a connection. Of these results, only `Incomplete` can change with more bytes. */
export type ParsedHeader =
  | { readonly _tag: "Incomplete" }
  /** The bytes are neither a header nor the beginning of one. */
  | { readonly _tag: "Absent" }
  | { readonly _tag: "Malformed"; readonly reason: string }
  | {
    readonly _tag: "Header"
    /** Length of the header in bytes; TLS or HTTP begins after it. */
    readonly length: number
    /** Undefined for health checks of the proxy itself, and if the proxy does not know the client. */
    readonly ends: TcpEnds | undefined
  }

const v1Signature = Buffer.from("PROXY ")
const v2Signature = Buffer.from("\r\n\r\n\0\r\nQUIT\n")
const v1MaxLength = 107
const v2FixedLength = 16
/** Far above what proxies send. Control ignores everything after the addresses (TLVs). */
const v2MaxLength = 4_096

export const parseHeader = (bytes: Buffer): ParsedHeader => {
  if (beginsWith(bytes, v1Signature)) return bytes.length < v1Signature.length ? incomplete : parseV1(bytes)
  if (beginsWith(bytes, v2Signature)) return bytes.length < v2FixedLength ? incomplete : parseV2(bytes)
  return { _tag: "Absent" }
}

const incomplete: ParsedHeader = { _tag: "Incomplete" }

/** True also for an incomplete signature. */
const beginsWith = (bytes: Buffer, signature: Buffer): boolean => {
  const length = Math.min(bytes.length, signature.length)
  return bytes.subarray(0, length).equals(signature.subarray(0, length))
}

const v1Line = /^PROXY TCP([46]) ([\d.:A-Fa-f]+) ([\d.:A-Fa-f]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})$/u

function parseV1(bytes: Buffer): ParsedHeader {
  const head = bytes.subarray(0, v1MaxLength)
  const end = head.indexOf("\n")
  if (end === -1)
    return head.length < v1MaxLength
      ? incomplete
      : malformed(`no end of line within ${v1MaxLength} bytes`)
  if (head[end - 1] !== 0x0d) return malformed("the line does not end with CR LF")
  const line = head.toString("latin1", 0, end - 1)
  // The specification says that everything after UNKNOWN is ignored.
  if (/^PROXY UNKNOWN(?: |$)/u.test(line)) return header(end + 1, undefined)
  const [, version, client = "", server = "", ...ports] = v1Line.exec(line) ?? []
  const areAddresses = [client, server].every((address) => ipVersion(address) === (version === "4" ? 4 : 6))
  if (!areAddresses || ports.some((port) => Number(port) > 65_535))
    return malformed("the line is not TCP4, TCP6 or UNKNOWN with valid addresses and ports")
  const [sourcePort, destinationPort] = ports.map(Number)
  return header(end + 1, endsOf(endOf(client, sourcePort), endOf(server, destinationPort)))
}

/** Address families of TCP connections: length of addresses and ports in bytes, and the ends in them. */
const families: Readonly<Record<number, { readonly length: number; ends(addresses: Buffer): TcpEnds | undefined }>> = {
  // AF_UNSPEC.
  0x00: { length: 0, ends: () => undefined },
  0x11: { length: 12, ends: (addresses) => readEnds(addresses, 4, (bytes) => bytes.join(".")) },
  0x21: {
    length: 36,
    ends: (addresses) => readEnds(addresses, 16, (bytes) => bytes.toString("hex").replace(/.{4}(?!$)/gu, "$&:"))
  },
  // AF_UNIX.
  0x31: { length: 216, ends: () => undefined }
}

/** Two addresses of `size` bytes and their ports. */
function readEnds(bytes: Buffer, size: number, text: (address: Buffer) => string): TcpEnds | undefined {
  return endsOf(
    endOf(text(bytes.subarray(0, size)), bytes.readUInt16BE(2 * size)),
    endOf(text(bytes.subarray(size, 2 * size)), bytes.readUInt16BE(2 * size + 2))
  )
}

function endOf(address: string, port = 0): TcpEnd | undefined {
  const canonical = canonicalAddress(address)
  return canonical === undefined ? undefined : { address: canonical, port }
}

function endsOf(source: TcpEnd | undefined, destination: TcpEnd | undefined): TcpEnds | undefined {
  return source === undefined || destination === undefined ? undefined : { source, destination }
}

function parseV2(bytes: Buffer): ParsedHeader {
  const [command = 0, family = 0] = bytes.subarray(v2Signature.length)
  const addressesLength = bytes.readUInt16BE(14)
  const length = v2FixedLength + addressesLength
  if (command !== 0x20 && command !== 0x21) return malformed("unknown version or command")
  if (length > v2MaxLength) return malformed(`longer than ${v2MaxLength} bytes`)
  // Command LOCAL: the proxy opened the connection for itself, and its addresses are ignored.
  if (command === 0x20) return bytes.length < length ? incomplete : header(length, undefined)
  const known = families[family]
  if (known === undefined) return malformed("address family or transport is not TCP")
  if (addressesLength < known.length) return malformed("shorter than its addresses")
  if (bytes.length < length) return incomplete
  return header(length, known.ends(bytes.subarray(v2FixedLength)))
}

function header(length: number, ends: TcpEnds | undefined): ParsedHeader {
  return { _tag: "Header", length, ends }
}

function malformed(reason: string): ParsedHeader {
  return { _tag: "Malformed", reason }
}
