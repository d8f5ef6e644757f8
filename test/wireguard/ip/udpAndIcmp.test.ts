/** UDP, ICMP echo, and packets that the stack drops. */
import { assert, it } from "@effect/vitest"
import { ipv4, sealPacket, udpPacket } from "./packets.ts"
import { peerAddress, RawPeer, stackAddress } from "./RawPeer.ts"

const bound = () => {
  const peer = new RawPeer()
  const received: Array<string> = []
  const socket = peer.stack.udpBind(53, (payload, from, localAddress) => {
    received.push(`${payload.toString()} from ${from.address}:${from.port} to ${localAddress}`)
  })
  return { peer, received, socket }
}

const echoRequest = (bytes: number) =>
  ipv4(1, peerAddress, stackAddress, Buffer.from([8, 0, 0, 0, 1, 2, 0, 3, ...Buffer.alloc(bytes, 5)]))

it("UDP delivers a payload with its sender, and sends one with a right checksum", () => {
  const { peer, received, socket } = bound()
  peer.stack.receive(1, udpPacket(peerAddress, 999, stackAddress, 53, Buffer.from("question")))
  assert.deepStrictEqual(received, ["question from 10.0.0.1:999 to 10.0.0.2"])
  socket.send(Buffer.from("answer"), stackAddress, { address: peerAddress, port: 999 })
  const [packet] = peer.sent
  assert.deepStrictEqual(
    [packet!.readUInt16BE(20), packet!.readUInt16BE(22), packet!.subarray(28).toString()],
    [53, 999, "answer"]
  )
})

it("UDP accepts a datagram without a checksum, and drops a wrong checksum or length", () => {
  const { peer, received } = bound()
  const packet = udpPacket(peerAddress, 999, stackAddress, 53, Buffer.from("text"))
  const without = Buffer.from(packet)
  without.writeUInt16BE(0, 26)
  peer.stack.receive(1, without)
  const wrong = Buffer.from(packet)
  wrong[30]! ^= 1
  peer.stack.receive(1, wrong)
  const long = Buffer.from(packet)
  long.writeUInt16BE(13, 24)
  peer.stack.receive(1, sealPacket(long))
  assert.lengthOf(received, 1)
  assert.deepStrictEqual(peer.sent, [])
})

it("UDP sends a payload of 1,252 bytes, and counts a larger one without sending it", () => {
  const { peer, socket } = bound()
  const to = { address: peerAddress, port: 999 }
  socket.send(Buffer.alloc(1_252), stackAddress, to)
  socket.send(Buffer.alloc(1_253), stackAddress, to)
  assert.deepStrictEqual(peer.sent.map((packet) => packet.length), [1_280])
  assert.strictEqual(peer.stack.counters.udp.tooLarge, 1)
})

it("UDP refuses a port in use, gives free ports for 0, and frees a closed one", () => {
  const { peer, socket } = bound()
  assert.throws(() => peer.stack.udpBind(53, () => {}), /53 is in use/)
  const ports = new Set(Array.from({ length: 100 }, () => peer.stack.udpBind(0, () => {}).port))
  assert.strictEqual(ports.size, 100)
  socket.close()
  assert.strictEqual(peer.stack.udpBind(53, () => {}).port, 53)
})

it("a UDP port without a program answers with ICMP port unreachable, at most 200 times in a second", () => {
  const peer = new RawPeer()
  const packet = udpPacket(peerAddress, 999, stackAddress, 54, Buffer.from("text"))
  for (let count = 0; count < 1_000; count += 1) peer.stack.receive(5_000, packet)
  assert.lengthOf(peer.sent, 200)
  const [answer] = peer.sent
  assert.deepStrictEqual([...answer!.subarray(20, 22)], [3, 3])
  assert.deepStrictEqual(answer!.subarray(28), packet.subarray(0, 28))
})

it("ICMP echo is answered with the same content, at most 200 times in a second", () => {
  const peer = new RawPeer()
  for (let count = 0; count < 1_000; count += 1) peer.stack.receive(5_000, echoRequest(33))
  peer.stack.receive(6_000, echoRequest(34))
  assert.lengthOf(peer.sent, 201)
  assert.deepStrictEqual([...peer.sent[0]!.subarray(24)], [1, 2, 0, 3, ...Buffer.alloc(33, 5)])
  assert.strictEqual(peer.sent[0]![20], 0)
})

it("fragments, other versions, wrong checksums and packets to other addresses are dropped and counted", () => {
  const { peer, received } = bound()
  const packet = udpPacket(peerAddress, 999, stackAddress, 53, Buffer.from("text"))
  const changed = (change: (copy: Buffer) => void, isSealed = true) => {
    const copy = Buffer.from(packet)
    change(copy)
    peer.stack.receive(1, isSealed ? sealPacket(copy) : copy)
  }
  changed((copy) => copy.writeUInt16BE(0x2000, 6))
  changed((copy) => copy.writeUInt16BE(5, 6))
  changed((copy) => void (copy[0] = 0x65))
  changed((copy) => void (copy[8] = 1), false)
  changed((copy) => void (copy[19] = 9))
  changed((copy) => copy.writeUInt16BE(copy.length + 1, 2))
  peer.stack.receive(1, Buffer.alloc(0))
  assert.deepStrictEqual([received, peer.sent, peer.stack.counters.dropped], [[], [], 7])
})
