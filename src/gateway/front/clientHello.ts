/** Parser of a TLS ClientHello (RFC 8446, 4.1.2): server name and ALPN protocols. Pure. */

/** Result for the first bytes of a connection. Only `Incomplete` can change with more bytes. */
export type ClientHello =
  | { readonly _tag: "Incomplete" }
  | {
    readonly _tag: "Hello"
    /** Lower-case host name; undefined if the client sent none, or a text that is no host name, such as an IP address. */
    readonly serverName: string | undefined
    /** Protocols that the client offers, in its order (RFC 7301), one character for each byte. */
    readonly alpn: ReadonlyArray<string>
  }
  | { readonly _tag: "Invalid" }

/**
 * Largest ClientHello in bytes, record headers included. A client with two post-quantum key shares and ECH sends less than
 * 5,000.
 */
export const maxClientHelloBytes = 16_384

/** Reads a ClientHello from any number of TLS records. Never throws. Bytes after the ClientHello are ignored. */
export const readClientHello = (bytes: Buffer): ClientHello => {
  const message = readHandshake(bytes.subarray(0, maxClientHelloBytes))
  if (message === "Incomplete") return bytes.length < maxClientHelloBytes ? incomplete : invalid
  const hello = message === "Invalid" ? undefined : parseHello(new Fields(message))
  return hello ?? invalid
}

const incomplete: ClientHello = { _tag: "Incomplete" }
const invalid: ClientHello = { _tag: "Invalid" }

const recordHeaderBytes = 5
const handshakeHeaderBytes = 4
const handshakeRecord = 22
const clientHelloMessage = 1

/** Returns the body of the ClientHello, joined from its records. */
function readHandshake(bytes: Buffer): Buffer | "Incomplete" | "Invalid" {
  const parts: Array<Buffer> = []
  let partsLength = 0
  let offset = 0
  while (true) {
    const record = readRecordHeader(bytes, offset)
    if (record === "Incomplete" || record === "Invalid") return record
    offset += recordHeaderBytes
    const part = bytes.subarray(offset, offset + record)
    parts.push(part)
    partsLength += part.length
    offset += record
    const message = readMessage(parts, partsLength)
    if (message !== "Incomplete") return message
    if (offset >= bytes.length) return "Incomplete"
  }
}

/** Length of the record's content. Judges each byte of an incomplete header, so that other protocols are found at once. */
function readRecordHeader(bytes: Buffer, offset: number): number | "Incomplete" | "Invalid" {
  const type = bytes[offset]
  const major = bytes[offset + 1]
  const high = bytes[offset + 3]
  const low = bytes[offset + 4]
  if (type !== undefined && type !== handshakeRecord) return "Invalid"
  if (major !== undefined && major !== 3) return "Invalid"
  if (high === undefined || low === undefined) return "Incomplete"
  const length = high * 256 + low
  // RFC 8446, 5.1: handshake records are never empty, and have at most 2^14 bytes.
  return length === 0 || length > 16_384 ? "Invalid" : length
}

function readMessage(parts: ReadonlyArray<Buffer>, length: number): Buffer | "Incomplete" | "Invalid" {
  const [first] = parts
  if (first?.[0] !== undefined && first[0] !== clientHelloMessage) return "Invalid"
  if (first === undefined || length < handshakeHeaderBytes) return "Incomplete"
  // No record is empty, so that four of them have the whole header.
  const head = first.length >= handshakeHeaderBytes ? first : Buffer.concat(parts.slice(0, handshakeHeaderBytes))
  const end = handshakeHeaderBytes + head.readUIntBE(1, 3)
  if (end > maxClientHelloBytes) return "Invalid"
  if (length < end) return "Incomplete"
  const message = parts.length === 1 ? first : Buffer.concat(parts, length)
  return message.subarray(handshakeHeaderBytes, end)
}

/** Undefined if a length does not fit or a value is forbidden. */
function parseHello(hello: Fields): ClientHello | undefined {
  const versionAndRandom = hello.take(34)
  const sessionId = hello.vector(1)
  const cipherSuites = hello.vector(2)
  const compressionMethods = hello.vector(1)
  if (versionAndRandom === undefined || sessionId === undefined || cipherSuites === undefined) return undefined
  if (versionAndRandom[0] !== 3 || sessionId.length > 32 || cipherSuites.length < 2 || cipherSuites.length % 2 === 1)
    return undefined
  if (compressionMethods === undefined || compressionMethods.length === 0) return undefined
  // A client of TLS 1.2 or older may send no extensions at all.
  if (hello.isAtEnd) return { _tag: "Hello", serverName: undefined, alpn: [] }
  const extensions = hello.vector(2)
  return extensions === undefined || !hello.isAtEnd ? undefined : parseExtensions(new Fields(extensions))
}

const serverNameExtension = 0
const alpnExtension = 16

function parseExtensions(extensions: Fields): ClientHello | undefined {
  let serverName: Buffer | undefined
  let alpn: ReadonlyArray<string> | undefined
  while (!extensions.isAtEnd) {
    const type = extensions.uint16()
    const content = extensions.vector(2)
    if (type === undefined || content === undefined) return undefined
    if (type === serverNameExtension) {
      // RFC 8446, 4.2: an extension occurs once.
      if (serverName !== undefined) return undefined
      serverName = parseServerName(content)
      if (serverName === undefined) return undefined
    } else if (type === alpnExtension) {
      if (alpn !== undefined) return undefined
      alpn = parseAlpn(content)
      if (alpn === undefined) return undefined
    }
  }
  return { _tag: "Hello", serverName: serverName && validHostName(serverName), alpn: alpn ?? [] }
}

/** The one name of type host_name (RFC 6066, 3). OpenSSL rejects other lists too. */
function parseServerName(content: Buffer): Buffer | undefined {
  const extension = new Fields(content)
  const list = extension.vector(2)
  if (list === undefined || !extension.isAtEnd || list[0] !== 0) return undefined
  const entry = new Fields(list.subarray(1))
  const name = entry.vector(2)
  return name === undefined || name.length === 0 || !entry.isAtEnd ? undefined : name
}

function parseAlpn(content: Buffer): ReadonlyArray<string> | undefined {
  const extension = new Fields(content)
  const list = extension.vector(2)
  if (list === undefined || list.length === 0 || !extension.isAtEnd) return undefined
  const protocols: Array<string> = []
  const entries = new Fields(list)
  while (!entries.isAtEnd) {
    const protocol = entries.vector(1)
    if (protocol === undefined || protocol.length === 0) return undefined
    protocols.push(protocol.toString("latin1"))
  }
  return protocols
}

const maxHostNameBytes = 253
const hostLabel = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/u
const numericLabel = /^(?:\d+|0x[0-9a-f]*)$/u

/** The name in lower case; undefined unless it is a host name (RFC 1123) whose last label is no number. */
function validHostName(name: Buffer): string | undefined {
  if (name.length > maxHostNameBytes) return undefined
  const text = name.toString("latin1").toLowerCase()
  const labels = text.split(".")
  return labels.every((label) => hostLabel.test(label)) && !numericLabel.test(labels.at(-1) ?? "") ? text : undefined
}

/** Reads the fields of a TLS structure in order. Every method returns undefined if the bytes end before the field. */
class Fields {
  readonly #bytes: Buffer
  #offset = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.#offset === this.#bytes.length
  }

  take(length: number): Buffer | undefined {
    const end = this.#offset + length
    if (end > this.#bytes.length) return undefined
    const taken = this.#bytes.subarray(this.#offset, end)
    this.#offset = end
    return taken
  }

  uint16(): number | undefined {
    return this.take(2)?.readUInt16BE(0)
  }

  /** A vector with a length of 1 or 2 bytes before its content. */
  vector(lengthBytes: 1 | 2): Buffer | undefined {
    const length = this.take(lengthBytes)?.readUIntBE(0, lengthBytes)
    return length === undefined ? undefined : this.take(length)
  }
}
