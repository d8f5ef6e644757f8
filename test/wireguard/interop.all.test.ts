/** The WireGuard state machine on a UDP socket against wireguard-go, in both roles. Needs root. */
import type { Endpoint } from "#wireguard/Device.ts"
import { WireGuard, type WireGuardEvent, type WireGuardOptions } from "#wireguard/noise/WireGuard.ts"
import { systemClock } from "#processes/clock.ts"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { randomBytes } from "node:crypto"
import { createSocket, type Socket } from "node:dgram"
import { once } from "node:events"
import { setTimeout as sleep } from "node:timers/promises"
import { reasonToSkip, WireguardGo } from "./WireguardGo.ts"

const skipped = reasonToSkip()
if (skipped !== undefined) process.stdout.write(`interop with wireguard-go is skipped: ${skipped}\n`)

/** wireguard-go drops an initiation that follows another one of the peer within 20 ms. */
const initiationIntervalMillis = 30

/** A machine with a real socket, whose timers are served every 5 ms. */
class Near implements AsyncDisposable {
  readonly address = "10.99.0.2"
  readonly wireguard: WireGuard
  readonly packets: Array<Buffer> = []
  readonly events: Array<WireGuardEvent> = []
  clockOffset = 0
  readonly #host: string
  #socket: Socket
  readonly #interval: NodeJS.Timeout

  constructor(host: string, options: Partial<WireGuardOptions> = {}) {
    this.#host = host
    this.#socket = createSocket("udp4")
    this.wireguard = new WireGuard({
      privateKey: randomBytes(32).toString("base64"),
      random: randomBytes,
      wall: systemClock.wall,
      sendDatagram: (datagram, to) => this.#socket.send(datagram, to.port, to.host),
      receivePacket: (packet) => this.packets.push(packet),
      onEvent: (event) => this.events.push(event),
      ...options
    })
    this.#interval = setInterval(() => this.wireguard.tick(this.now), 5)
  }

  get now(): number {
    return systemClock.monotonic() + this.clockOffset
  }

  get port(): number {
    return this.#socket.address().port
  }

  /** Listens on a new port. */
  async bind(): Promise<void> {
    const before = this.#socket
    this.#socket = createSocket({ type: "udp4", recvBufferSize: 1 << 20 })
    this.#socket.on("message", (datagram, { address, port }) => {
      this.wireguard.receive(this.now, datagram, { host: address, port })
    })
    this.#socket.bind(0, this.#host)
    await once(this.#socket, "listening")
    before.close()
  }

  setPeer(publicKey: string, address: string, endpoint: Endpoint | undefined): void {
    this.wireguard.setPeers(this.now, [{ publicKey, address, endpoint, keepaliveSeconds: 0 }])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#interval)
    this.#socket.close()
    await once(this.#socket, "close")
  }
}

// The reason is printed above.
describe.skipIf(skipped !== undefined)("wireguard-go", () => {
  let go: WireguardGo
  let goPublicKey = ""

  beforeAll(async () => {
    go = await WireguardGo.start(randomBytes(32).toString("base64"))
    goPublicKey = go.show("public-key").trim()
  })
  afterAll(() => go[Symbol.asyncDispose]())

  const until = async (isDone: () => boolean, subject: string, millis = 10_000): Promise<void> => {
    for (const start = systemClock.monotonic(); !isDone();) {
      if (systemClock.monotonic() - start > millis) throw new Error(`${subject} does not come within ${millis} ms`)
      await sleep(5)
    }
  }

  /** Sends a ping of this length, and waits for the answer of the kernel behind wireguard-go. */
  const ping = async (near: Near, length: number): Promise<void> => {
    const sequence = near.packets.length
    const request = echoRequest(near.address, go.address, length, sequence)
    assert.isTrue(near.wireguard.send(near.now, request))
    await until(() => near.packets.some((packet) => isReply(packet, request)), `the answer to ${length} bytes`)
  }

  /** Lets the kernel behind wireguard-go send a datagram to the near machine. */
  const receiveDatagram = async (near: Near, text: string): Promise<void> => {
    const program = `const s = require("node:dgram").createSocket("udp4")
      s.bind(0, "${go.address}", () => s.send(${JSON.stringify(text)}, 7000, "${near.address}", () => s.close()))`
    go.run(process.execPath, "-e", program)
    await until(() => near.packets.some((packet) => packet.includes(text)), `the datagram ${text}`)
  }

  const connect = async (isInitiator: boolean, options: Partial<WireGuardOptions> = {}): Promise<Near> => {
    const near = new Near(go.nearHost, options)
    await near.bind()
    const endpoint = isInitiator ? { host: go.farHost, port: go.port } : undefined
    near.setPeer(goPublicKey, go.address, endpoint)
    const toNear = isInitiator ? [] : ["endpoint", `${go.nearHost}:${near.port}`]
    go.set("peer", near.wireguard.publicKey, "allowed-ips", `${near.address}/32`, ...toNear)
    return near
  }

  it("answers as the responder, for packets of every length up to the MTU", async () => {
    await using near = await connect(true)
    for (const length of [28, 29, 43, 44, 45, 64, 1_000, 1_279, 1_280]) await ping(near, length)
    await receiveDatagram(near, "to the initiator")
    assert.lengthOf(near.events, 1)
  })

  it("is answered as the initiator, and both ends send", async () => {
    await using near = await connect(false)
    await receiveDatagram(near, "to the responder")
    for (const length of [28, 1_280]) await ping(near, length)
    assert.deepStrictEqual(near.wireguard.stats()[0]?.endpoint, { host: go.farHost, port: go.port })
  })

  it("follows new keys by age, by request, and after it has lost the session", async () => {
    await using near = await connect(true)
    await ping(near, 100)
    await sleep(initiationIntervalMillis)
    near.clockOffset += 121_000
    await ping(near, 100)
    await until(() => near.events.length === 2, "the handshake after 121 s")
    await ping(near, 100)
    await sleep(initiationIntervalMillis)
    near.clockOffset += 6_000
    near.wireguard.renewHandshakes(near.now)
    await until(() => near.events.length === 3, "the handshake by request")
    await ping(near, 100)
    go.set("peer", near.wireguard.publicKey, "remove")
    go.set(
      "peer",
      near.wireguard.publicKey,
      "allowed-ips",
      `${near.address}/32`,
      "endpoint",
      `${go.nearHost}:${near.port}`
    )
    await receiveDatagram(near, "after a restart")
    await ping(near, 100)
  })

  it("follows this end to another port", async () => {
    await using near = await connect(true)
    await ping(near, 100)
    await near.bind()
    await ping(near, 100)
    assert.include(go.show("endpoints"), `${go.nearHost}:${near.port}`)
    assert.lengthOf(near.events, 1)
  })

  it("returns the cookie of this end under load", async () => {
    await using near = await connect(false, { limits: { perSecond: 0, burst: 0, provenPerSecond: 10, perSource: 10 } })
    await receiveDatagram(near, "with a cookie")
    assert.strictEqual(near.wireguard.counters.cookieRepliesSent, 1)
    await ping(near, 100)
  })

  it("under load sends a cookie, with which the next initiation is answered", async () => {
    const cookies: Array<Buffer> = []
    let sentInitiation: Buffer | undefined
    const flood = createSocket("udp4")
    await using near = await connect(true, {
      sendDatagram: (datagram) => {
        if (datagram[0] === 1) sentInitiation = datagram
        flood.send(datagram, go.port, go.farHost)
      }
    })
    flood.on("message", (datagram, { address, port }) => {
      if (datagram[0] === 3) cookies.push(Buffer.from(datagram))
      near.wireguard.receive(near.now, datagram, { host: address, port })
    })
    const request = echoRequest(near.address, go.address, 100, 1)
    near.wireguard.send(near.now, request)
    await until(() => near.events.length === 1, "the first handshake")
    // Copies of one initiation fill the queue of wireguard-go, which checks each of them.
    const copy = Buffer.from(sentInitiation!)
    for (let round = 0; cookies.length === 0; round += 1) {
      if (round > 20) throw new Error("wireguard-go sends no cookie")
      for (let i = 0; i < 4_000; i += 1) flood.send(copy, go.port, go.farHost)
      near.clockOffset += 6_000
      near.wireguard.renewHandshakes(near.now)
      near.wireguard.tick(near.now)
      await sleep(100)
    }
    const before = near.events.length
    near.clockOffset += 6_000
    near.wireguard.renewHandshakes(near.now)
    await until(() => near.events.length > before, "the handshake with a cookie")
    assert.isFalse(sentInitiation!.subarray(132).equals(Buffer.alloc(16)), "the initiation has no mac2")
    flood.close()
  })
})

function echoRequest(from: string, to: string, length: number, sequence: number): Buffer {
  const packet = Buffer.alloc(length, 0x61)
  packet.fill(0, 0, 28)
  packet.set([0x45, 0, length >> 8, length & 255])
  packet.set([64, 1], 8)
  packet.set(from.split(".").map(Number), 12)
  packet.set(to.split(".").map(Number), 16)
  packet[20] = 8
  packet.writeUInt16BE(sequence, 26)
  packet.writeUInt16BE(checksum(packet.subarray(0, 20)), 10)
  packet.writeUInt16BE(checksum(packet.subarray(20)), 22)
  return packet
}

/** True for the echo reply with the request's identifier, sequence number and data. */
function isReply(packet: Buffer, request: Buffer): boolean {
  return packet.length === request.length && packet[20] === 0 && packet.subarray(24).equals(request.subarray(24))
}

function checksum(bytes: Buffer): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 1) sum += bytes[i]! << (i % 2 === 0 ? 8 : 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
