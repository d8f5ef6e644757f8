/** Random and mutated packets against a host with connections, listeners and UDP ports. */
import { assert } from "@effect/vitest"
import { type IpHost, type IpWorld, twoHosts } from "./IpWorld.ts"
import { sealPacket } from "./packets.ts"
import { openPair } from "./TestEnd.ts"

const limits = { maxConnections: 200, maxPending: 100, maxPendingPerAddress: 50, maxMemoryBytes: 4 * 1024 * 1024 }

/** Sends `count` packets to a host. Fails if a call throws, a bound is exceeded, or a new connection does not work afterwards. */
export const sendHostilePackets = (seed: number, count: number): void => {
  const { left, right, world } = twoHosts(seed, limits)
  const { chance, int, pick } = world.random
  right.stack.udpBind(53, () => {})
  left.stack.udpBind(54, () => {}).send(Buffer.alloc(100), left.address, { address: right.address, port: 53 })
  openTraffic(world, left, right, 20_000)
  world.runUntil(world.now + 500)
  const samples = world.samples.filter((packet) => packet[19] === 2)
  for (let number = 0; number < count; number += 1) {
    // The live connection keeps the sequence numbers of the samples near the truth until a mutation ends it.
    if (number % 5_000 === 0) {
      openTraffic(world, left, right, 20_001 + number / 5_000)
      world.runUntil(world.now + 200)
      const fresh = world.samples.splice(0).filter((packet) => packet[19] === 2)
      samples.splice(0, fresh.length, ...fresh)
    }
    const packet = chance(0.1) ? randomPacket(world) : mutated(world, Buffer.from(pick(samples)))
    right.receive(chance(0.7) ? sealPacket(packet) : packet)
    if (number % 50 === 0) world.runUntil(world.now + int(20))
    if (number % 1_000 === 0) checkBounds(right)
  }
  right.stack.closeConnectionsTo(left.address)
  world.runUntil(world.now + 100_000)
  checkBounds(right)
  const pair = openPair(left, right, { active: { bytes: 50_000 }, passive: { bytes: 50_000 } }, 30_000)
  world.runUntil(world.now + 60_000)
  assert.deepStrictEqual([pair.active.outcome, pair.passive?.outcome], ["done", "done"])
}

function openTraffic(world: IpWorld, left: IpHost, right: IpHost, port: number): void {
  const plan = { bytes: 200_000, readDelay: 5, chunkBytes: 1_000 }
  openPair(left, right, { active: plan, passive: plan }, port)
  world.after(50, () => void openPair(right, left, { active: plan, passive: { bytes: 0, endsLast: true } }, port))
}

function checkBounds({ stack }: IpHost): void {
  const { connections, memoryBytes } = stack.counters
  assert.isAtMost(connections, limits.maxConnections + 4_096)
  // Each of the few connections may fill its small window after the bound is reached.
  assert.isBelow(memoryBytes, 2 * limits.maxMemoryBytes)
}

function randomPacket({ random: { chance, int } }: IpWorld): Buffer {
  const packet = Buffer.from(Array.from({ length: int(120) }, () => int(256)))
  if (packet.length < 20 || chance(0.2)) return packet
  packet[0] = 0x45 + int(2)
  packet.writeUInt16BE(packet.length, 2)
  packet.writeUInt16BE(0, 6)
  packet[9] = [1, 6, 17][int(3)]!
  packet.set([10, 0, 0, 1, 10, 0, 0, 2], 12)
  return packet
}

function mutated({ random: { chance, int, pick } }: IpWorld, packet: Buffer): Buffer {
  const change = int(6)
  if (change === 0) return packet
  if (change === 1) return packet.subarray(0, int(packet.length + 1))
  if (change === 2) {
    const shorter = packet.subarray(0, 20 + int(packet.length - 19))
    shorter.writeUInt16BE(shorter.length, 2)
    return shorter
  }
  if (change === 3 && packet[9] === 6) {
    // Flags, ports near the listeners, and numbers near the window.
    packet[33] = int(64)
    if (chance(0.3)) packet.writeUInt16BE(20_000 + int(45_000), 20)
    if (chance(0.5))
      packet.writeUInt32BE((packet.readUInt32BE(24) + pick([-1, 1, int(100_000), int(2 ** 31)])) >>> 0, 24)
    if (chance(0.5))
      packet.writeUInt32BE((packet.readUInt32BE(28) + pick([-1, 1, int(100_000), int(2 ** 31)])) >>> 0, 28)
    if (chance(0.3)) packet.writeUInt16BE(pick([0, 1, 65_535]), 34)
    return packet
  }
  for (let flips = 1 + int(4); flips > 0; flips -= 1) {
    const at = chance(0.5) ? 20 + int(Math.min(40, packet.length - 20)) : int(packet.length)
    packet[at] = int(256)
  }
  return packet
}
