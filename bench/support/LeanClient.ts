/**
 * Minimal WebSocket client (RFC 6455) for load generation. It distinguishes messages by their first letters without decoding
 * them, so that the load process is not the bottleneck. All clients read into one buffer.
 */
import { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"
import { connect, type Socket } from "node:net"
import { type ControlV1State, maxConfigHeadBytes } from "./ControlV1State.ts"

export interface ConnectTarget {
  readonly host: string
  readonly port: number
  /** Source address, for example 127.0.0.2. Undefined lets the system choose. */
  readonly localAddress: string | undefined
  readonly type: "agent" | "gateway"
  readonly apiKey: string
  /** Set for a client of `control.v1`. */
  readonly controlV1?: ControlV1State
}

export interface ClientListener {
  onUpgrade(client: LeanClient): void
  /** The client received a config of this many bytes. */
  onConfig(client: LeanClient, bytes: number): void
  /** The client resumed its session and receives missed deltas in place of a config. */
  onResumed(client: LeanClient): void
  /** The client received `count` deltas in one read. `lastSequence` is the number of the last delta. */
  onDeltas(client: LeanClient, count: number): void
  onClose(client: LeanClient, reason: string): void
}

/** Shared by all clients, because every read is processed completely before the next read begins. */
const readBuffer = Buffer.allocUnsafe(256 * 1024)

/** Length of the text after the sequence number, at the end of every measured delta. */
const deltaTailBytes = "\",\"enabled\":true}}".length
const sequenceDigits = 5

/** Larger frames are not buffered. Only their size is counted. */
const maxBufferedFrameBytes = 32 * 1024

export class LeanClient {
  /** Deltas since the last reset. */
  deltaCount = 0
  lastSequence = 0
  /** Deltas whose number did not follow the previous one. */
  outOfOrder = 0
  startedAt = 0
  /** Set to keep the payload of the next config. */
  keepConfig = false
  configText = ""
  readonly apiKey: string
  readonly controlV1: ControlV1State | undefined
  readonly #socket: Socket
  readonly #listener: ClientListener
  readonly #authFrame: Buffer
  #isUpgraded = false
  /** Bytes to read before the client pauses the socket. */
  #readAllowance = Infinity
  #incomplete: Buffer = Buffer.alloc(0)
  /** Missing bytes of the large frame that is being received. */
  #largeRemaining = 0
  #largePayloadBytes = 0
  #largeParts: Array<Buffer> = []

  constructor(target: ConnectTarget, listener: ClientListener) {
    this.#listener = listener
    const { apiKey, controlV1 } = target
    this.apiKey = apiKey
    this.controlV1 = controlV1
    this.#authFrame = clientFrame(1, JSON.stringify({ type: "auth", data: { apiKey, ...controlV1?.authFields } }))
    const socket = connect({
      host: target.host,
      port: target.port,
      noDelay: true,
      ...(target.localAddress === undefined ? {} : { localAddress: target.localAddress }),
      onread: {
        buffer: readBuffer,
        callback: (size) => {
          this.#read(readBuffer.subarray(0, size))
          this.#readAllowance -= size
          return this.#readAllowance > 0
        }
      }
    })
    this.#socket = socket
    let reason = "closed"
    socket.on("connect", () => socket.write(upgradeRequest(target)))
    socket.on("error", (error) => reason = error.message)
    socket.on("close", () => listener.onClose(this, reason))
  }

  /** Bytes that the socket has received so far, the upgrade response included. */
  get bytesReceived(): number {
    return this.#socket.bytesRead
  }

  send(frame: Buffer): void {
    this.#socket.write(frame)
  }

  /** Resumes reading for this many bytes, then pauses. */
  allowReading(bytes: number): void {
    this.#readAllowance = bytes
    this.#socket.resume()
  }

  /** Resets the connection without a close handshake, so that no port stays in TIME_WAIT. */
  terminate(): void {
    this.#socket.resetAndDestroy()
  }

  #read(bytes: Buffer): void {
    let from = 0
    let deltas = 0
    let data = bytes
    if (this.#largeRemaining > 0) {
      from = this.#continueLargeFrame(data)
    } else if (this.#incomplete.length > 0) {
      data = Buffer.concat([this.#incomplete, bytes])
      this.#incomplete = Buffer.alloc(0)
    }
    if (!this.#isUpgraded) {
      const end = data.indexOf("\r\n\r\n")
      if (end < 0) return this.#keepIncomplete(data, 0)
      if (!data.subarray(0, 12).equals(switchingProtocols))
        return void this.#socket.destroy(new Error(data.toString("latin1", 0, 32)))
      this.#isUpgraded = true
      from = end + 4
      this.#socket.write(this.#authFrame)
      this.#listener.onUpgrade(this)
    }
    while (from < data.length) {
      const header = parseHeader(data, from)
      if (header === undefined) {
        this.#keepIncomplete(data, from)
        break
      }
      const { opcode, payload, start } = header
      const end = start + payload
      if (end > data.length) {
        if (payload > maxBufferedFrameBytes && data.length - start >= maxConfigHeadBytes)
          this.#beginLargeFrame(data, start, payload)
        else this.#keepIncomplete(data, from)
        break
      }
      if (opcode === 1) {
        const kind = data[start + 9]
        if (kind === typeInitials.t) {
          deltas += 1
          this.#countDelta(data, end)
          this.controlV1?.readDelta(data, start)
        } else if (kind === typeInitials.c) {
          this.controlV1?.readConfig(data, start)
          this.#configReceived(payload, this.keepConfig ? data.toString("utf8", start, end) : "")
        } else if (this.controlV1?.isResumed(data, start, end) === true) this.#listener.onResumed(this)
      } else if (opcode === 9) {
        this.#socket.write(clientFrame(10, data.toString("latin1", start, end)))
      } else if (opcode === 8) {
        this.#socket.destroy(new Error(`closed with ${payload >= 2 ? data.readUInt16BE(start) : "no code"}`))
      }
      from = end
    }
    if (deltas === 0) return
    for (const revision of this.controlV1?.drainAcknowledgements() ?? noRevisions) {
      this.#socket.write(acknowledgementFrame(revision))
    }
    this.#listener.onDeltas(this, deltas)
  }

  #countDelta(data: Buffer, end: number): void {
    let sequence = 0
    for (let at = end - deltaTailBytes - sequenceDigits; at < end - deltaTailBytes; at += 1) {
      sequence = sequence * 10 + (data[at] ?? 0) - 48
    }
    if (sequence !== this.lastSequence + 1) this.outOfOrder += 1
    this.lastSequence = sequence
    this.deltaCount += 1
  }

  #configReceived(bytes: number, text: string): void {
    this.configText = text
    this.#listener.onConfig(this, bytes)
  }

  #keepIncomplete(data: Buffer, from: number): void {
    this.#incomplete = Buffer.from(data.subarray(from))
  }

  /** Starts a frame larger than `maxBufferedFrameBytes`. Only a config is that large. */
  #beginLargeFrame(data: Buffer, start: number, payload: number): void {
    this.#largePayloadBytes = payload
    this.#largeRemaining = payload - (data.length - start)
    this.controlV1?.readConfig(data, start)
    if (this.keepConfig) this.#largeParts.push(Buffer.from(data.subarray(start)))
  }

  #continueLargeFrame(data: Buffer): number {
    const taken = Math.min(this.#largeRemaining, data.length)
    this.#largeRemaining -= taken
    if (this.keepConfig) this.#largeParts.push(Buffer.from(data.subarray(0, taken)))
    if (this.#largeRemaining === 0) {
      const text = Buffer.concat(this.#largeParts.splice(0)).toString("utf8")
      this.#configReceived(this.#largePayloadBytes, text)
    }
    return taken
  }
}

/** Encodes one masked client frame. The mask is zero, which costs the server the same work as any other mask. */
export const clientFrame = (opcode: number, text: string): Buffer => {
  const payload = Buffer.from(text, opcode === 10 ? "latin1" : "utf8")
  const long = payload.length > 125
  const frame = Buffer.alloc((long ? 8 : 6) + payload.length)
  frame[0] = 0x80 | opcode
  frame[1] = 0x80 | (long ? 126 : payload.length)
  if (long) frame.writeUInt16BE(payload.length, 2)
  payload.copy(frame, frame.length - payload.length)
  return frame
}

const noRevisions: ReadonlyArray<number> = []

/** Cache of the last encoded frame, because all clients acknowledge the same deltas at nearly the same time. */
let lastAcknowledgement: { readonly revision: number; readonly frame: Buffer } = {
  revision: -1,
  frame: Buffer.alloc(0)
}

function acknowledgementFrame(revision: number): Buffer {
  if (lastAcknowledgement.revision !== revision)
    lastAcknowledgement = { revision, frame: clientFrame(1, `{"type":"ack","data":{"revision":${revision}}}`) }
  return lastAcknowledgement.frame
}

const switchingProtocols = Buffer.from("HTTP/1.1 101")

/** First letter of a message type, at the position after `{"type":"`. */
const typeInitials = { t: "t".charCodeAt(0), c: "c".charCodeAt(0) }

function upgradeRequest({ host, port, type, controlV1 }: ConnectTarget): string {
  return `GET /?type=${type} HTTP/1.1\r\nHost: ${host}:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
    `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\nSec-WebSocket-Version: 13\r\n` +
    (controlV1 === undefined ? "\r\n" : "Sec-WebSocket-Protocol: control.v1\r\n\r\n")
}

/** Parses a frame header of 2, 4 or 10 bytes (servers do not mask). Returns undefined while the header is incomplete. */
function parseHeader(data: Buffer, from: number): { opcode: number; payload: number; start: number } | undefined {
  if (data.length < from + 2) return undefined
  const opcode = (data[from] ?? 0) & 0x0f
  const short = (data[from + 1] ?? 0) & 0x7f
  if (short < 126) return { opcode, payload: short, start: from + 2 }
  if (short === 126)
    return data.length < from + 4
      ? undefined
      : { opcode, payload: data.readUInt16BE(from + 2), start: from + 4 }
  return data.length < from + 10
    ? undefined
    : { opcode, payload: Number(data.readBigUInt64BE(from + 2)), start: from + 10 }
}
