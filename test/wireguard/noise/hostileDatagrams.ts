/** Random and mutated datagrams against two connected machines. */
import { agentAndGateway, type Machine, NoiseWorld } from "./NoiseWorld.ts"
import { Blake2sMac } from "#wireguard/noise/blake2s.ts"
import { hash } from "#wireguard/noise/kdf.ts"
import { assert } from "@effect/vitest"

/** Sends `count` hostile datagrams to each of two machines, and checks that both still work. */
export const sendHostileDatagrams = (seed: number, count: number): void => {
  const world = new NoiseWorld(seed)
  const { agent, gateway } = agentAndGateway(world)
  for (let number = 0; number < 20; number += 1) {
    agent.wireguard.renewHandshakes(agent.now)
    gateway.wireguard.renewHandshakes(gateway.now)
    agent.send(gateway, number, 24 + number * 30)
    gateway.send(agent, number, 24 + number * 30)
    world.runUntil(world.now + 1_500)
  }
  const samples = world.datagrams.map(({ datagram }) => datagram)
  const macs = new Map([agent, gateway].map((machine) => [machine, mac1Of(machine)]))
  const received = agent.received.length + gateway.received.length
  const { chance, int, pick } = world.random
  for (let i = 0; i < count; i += 1) {
    const machine = pick([agent, gateway])
    const datagram = chance(0.2) ? world.randomBytes(int(200)) : mutated(world, Buffer.from(pick(samples)))
    // A part of the handshake messages passes the first check, which needs the public key only.
    const end = datagram.length - 32
    if ((datagram[0] === 1 || datagram[0] === 2) && end > 0 && chance(0.1))
      datagram.set(macs.get(machine)!.digest(datagram, end), end)
    machine.receive(datagram, { host: `192.0.2.${int(256)}`, port: int(65_536) })
    if (i % 100 === 0) world.runUntil(world.now + 5)
  }
  assert.strictEqual(agent.received.length + gateway.received.length, received, "a hostile datagram delivered a packet")
  for (const machine of [agent, gateway]) assert.isAtMost(machine.wireguard.usage().indexes, 4)
  world.runUntil(world.now + 6_000)
  agent.send(gateway, 1_000)
  gateway.send(agent, 1_001)
  world.runUntil(world.now + 500)
  assert.deepStrictEqual([gateway.received.at(-1), agent.received.at(-1)], [1_000, 1_001])
}

const mac1Of = ({ wireguard }: Machine) =>
  new Blake2sMac(hash(Buffer.from("mac1----"), Buffer.from(wireguard.publicKey, "base64")))

function mutated({ random }: NoiseWorld, datagram: Buffer): Buffer {
  const change = random.int(4)
  // A replay.
  if (change === 0) return datagram
  if (change === 1) return datagram.subarray(0, random.int(datagram.length + 1))
  if (change === 2) return Buffer.concat([datagram, Buffer.alloc(random.int(64), random.int(256))])
  for (let flips = 1 + random.int(3); flips > 0; flips -= 1) {
    const at = random.chance(0.5) ? random.int(Math.min(16, datagram.length)) : random.int(datagram.length)
    datagram[at] = random.int(256)
  }
  return datagram
}
