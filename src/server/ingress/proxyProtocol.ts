/**
 * Parses headers of HAProxy's PROXY protocol, versions 1 and 2 (proxy-protocol.txt). Pure.
 *
 * A TCP load balancer sends this header first and names the client whose connection it forwards.
 */
import { ipVersion } from "#schema/addresses.ts"
import { canonicalAddress } from "./addresses.ts"

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
    /**
     * Address of the client. Undefined for health checks of the proxy itself, and if the proxy does not know the client.
     */
    readonly client: string | undefined
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

/** Decision about a connection, from its first bytes. */
export type Decision =
  | { readonly _tag: "Wait" }
  | { readonly _tag: "Reject"; readonly reason: string }
  /** `header` is undefined if none was sent and none was required. */
  | { readonly _tag: "Pass"; readonly header: Extract<ParsedHeader, { _tag: "Header" }> | undefined }

/**
 * Requires a header of trusted proxies, because otherwise a header that a client sends through the proxy would be believed.
 * Rejects headers of all other addresses.
 */
export const decide = (bytes: Buffer, isTrusted: boolean): Decision => {
  const parsed = parseHeader(bytes)
  if (parsed._tag === "Incomplete") return { _tag: "Wait" }
  if (parsed._tag === "Absent") {
    return isTrusted ?
      reject("the trusted proxy sent no PROXY header, which CONTROL_PROXY_PROTOCOL requires")
      : { _tag: "Pass", header: undefined }
  }
  if (!isTrusted) return reject("it sent a PROXY header, but its address is not in CONTROL_TRUSTED_PROXIES")
  return parsed._tag === "Header" ?
    { _tag: "Pass", header: parsed }
    : reject(`malformed PROXY header: ${parsed.reason}`)
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
  return header(end + 1, canonicalAddress(client))
}

/** Address families of TCP connections: length of addresses and ports in bytes, and the client address in them. */
const families: Readonly<Record<number, { readonly length: number; client(addresses: Buffer): string | undefined }>> = {
  // AF_UNSPEC.
  0x00: { length: 0, client: () => undefined },
  0x11: { length: 12, client: (addresses) => addresses.subarray(0, 4).join(".") },
  0x21: {
    length: 36,
    client: (addresses) => canonicalAddress(addresses.toString("hex", 0, 16).replace(/.{4}(?!$)/gu, "$&:"))
  },
  // AF_UNIX.
  0x31: { length: 216, client: () => undefined }
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
  return header(length, known.client(bytes.subarray(v2FixedLength)))
}

function header(length: number, client: string | undefined): ParsedHeader {
  return { _tag: "Header", length, client }
}

function malformed(reason: string): ParsedHeader {
  return { _tag: "Malformed", reason }
}

function reject(reason: string): Decision {
  return { _tag: "Reject", reason }
}
