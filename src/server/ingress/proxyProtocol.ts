/**
 * HAProxy's PROXY protocol, versions 1 and 2 (proxy-protocol.txt): what a load balancer that passes on TCP says first of
 * whom it passes on. Pure.
 */
import { isIP } from "node:net"
import { plainAddress } from "./addresses.ts"

/** What the first bytes of a connection are, as far as they have come. More bytes change nothing but `More`. */
export type Reading =
  | { readonly _tag: "More" }
  /** They are no header, nor the beginning of one. */
  | { readonly _tag: "Absent" }
  | { readonly _tag: "Malformed"; readonly reason: string }
  | {
    readonly _tag: "Header"
    /** Of the header, in bytes: what is spoken otherwise begins behind it. */
    readonly length: number
    /** Undefined where the proxy speaks for itself, as in its health checks, or does not know. */
    readonly client: string | undefined
  }

const v1Signature = Buffer.from("PROXY ")
const v2Signature = Buffer.from("\r\n\r\n\0\r\nQUIT\n")
const v1MaxLength = 107
const v2FixedLength = 16
/** Many times what proxies add to the addresses, which are read by nobody here. */
const v2MaxLength = 4_096

export const readHeader = (bytes: Buffer): Reading => {
  if (beginsWith(bytes, v1Signature)) return bytes.length < v1Signature.length ? more : readV1(bytes)
  if (beginsWith(bytes, v2Signature)) return bytes.length < v2FixedLength ? more : readV2(bytes)
  return { _tag: "Absent" }
}

/** What is done with a connection whose first bytes these are. */
export type Decision =
  | { readonly _tag: "Wait" }
  | { readonly _tag: "Refuse"; readonly reason: string }
  /** `header` is undefined where there is none, and none was due. */
  | { readonly _tag: "Pass"; readonly header: Extract<Reading, { _tag: "Header" }> | undefined }

/** A proxy that is trusted must send a header, so that none is taken from whom it passes on; nobody else's is believed. */
export const decide = (bytes: Buffer, isTrusted: boolean): Decision => {
  const reading = readHeader(bytes)
  if (reading._tag === "More") return { _tag: "Wait" }
  if (reading._tag === "Absent") {
    return isTrusted ?
      refuse("it has sent no PROXY header, as CONTROL_PROXY_PROTOCOL demands of a trusted proxy")
      : { _tag: "Pass", header: undefined }
  }
  if (!isTrusted) return refuse("it has sent a PROXY header, and is none of CONTROL_TRUSTED_PROXIES")
  return reading._tag === "Header" ?
    { _tag: "Pass", header: reading }
    : refuse(`its PROXY header is malformed: ${reading.reason}`)
}

const more: Reading = { _tag: "More" }

/** Also where only a part of the signature has come. */
const beginsWith = (bytes: Buffer, signature: Buffer): boolean => {
  const length = Math.min(bytes.length, signature.length)
  return bytes.subarray(0, length).equals(signature.subarray(0, length))
}

const v1Line = /^PROXY TCP([46]) ([\d.:A-Fa-f]+) ([\d.:A-Fa-f]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})$/u

function readV1(bytes: Buffer): Reading {
  const head = bytes.subarray(0, v1MaxLength)
  const end = head.indexOf("\n")
  if (end === -1) return head.length < v1MaxLength ? more : malformed(`it has no end within ${v1MaxLength} bytes`)
  if (head[end - 1] !== 0x0d) return malformed("its line does not end with CR and LF")
  const line = head.toString("latin1", 0, end - 1)
  // Whatever stands behind UNKNOWN is to be ignored.
  if (/^PROXY UNKNOWN(?: |$)/u.test(line)) return header(end + 1, undefined)
  const [, version, client = "", server = "", ...ports] = v1Line.exec(line) ?? []
  const areAddresses = [client, server].every((address) => isIP(address) === (version === "4" ? 4 : 6))
  if (!areAddresses || ports.some((port) => Number(port) > 65_535))
    return malformed("its line is none of TCP4, TCP6 and UNKNOWN with addresses and ports")
  return header(end + 1, plainAddress(client))
}

/** Of the families that come by TCP: how many bytes the addresses and ports have, and the client's address in them. */
const families: Readonly<Record<number, { readonly length: number; client(addresses: Buffer): string | undefined }>> = {
  // Unspecified.
  0x00: { length: 0, client: () => undefined },
  0x11: { length: 12, client: (addresses) => addresses.subarray(0, 4).join(".") },
  0x21: {
    length: 36,
    client: (addresses) => plainAddress(addresses.toString("hex", 0, 16).replace(/.{4}(?!$)/gu, "$&:"))
  },
  // A Unix socket.
  0x31: { length: 216, client: () => undefined }
}

function readV2(bytes: Buffer): Reading {
  const [command = 0, family = 0] = bytes.subarray(v2Signature.length)
  const addressesLength = bytes.readUInt16BE(14)
  const length = v2FixedLength + addressesLength
  if (command !== 0x20 && command !== 0x21) return malformed("its version or command is unknown")
  if (length > v2MaxLength) return malformed(`it is longer than ${v2MaxLength} bytes`)
  // The proxy itself has opened the connection: its addresses, if any, are to be ignored.
  if (command === 0x20) return bytes.length < length ? more : header(length, undefined)
  const known = families[family]
  if (known === undefined) return malformed("its address family and transport are not those of a TCP connection")
  if (addressesLength < known.length) return malformed("it is shorter than its addresses")
  if (bytes.length < length) return more
  return header(length, known.client(bytes.subarray(v2FixedLength)))
}

function header(length: number, client: string | undefined): Reading {
  return { _tag: "Header", length, client }
}

function malformed(reason: string): Reading {
  return { _tag: "Malformed", reason }
}

function refuse(reason: string): Decision {
  return { _tag: "Refuse", reason }
}
