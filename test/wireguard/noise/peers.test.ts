/** Endpoints, peers and load limits of WireGuard machines in virtual time. */
import { Blake2sMac } from "#wireguard/noise/blake2s.ts"
import { hash } from "#wireguard/noise/kdf.ts"
import { assert, describe, it } from "@effect/vitest"
import { agentAndGateway, ipv4Packet, Machine, NoiseWorld, noTrouble } from "./NoiseWorld.ts"

const types = (world: NoiseWorld, from = 0) =>
  world.datagrams.slice(from).map(({ from, datagram }) => `${from} ${datagram[0]}`)

describe("endpoints", () => {
  it("the gateway follows an authenticated packet to a new address, and no other datagram", () => {
    const world = new NoiseWorld(11)
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(1_000)
    const attacker = { host: "192.0.2.66", port: 6 }
    const [initiation, , data] = world.datagrams.map(({ datagram }) => datagram)
    for (const datagram of [initiation!, data!]) {
      gateway.receive(Buffer.from(datagram), attacker)
      const forged = Buffer.from(datagram)
      forged[forged.length - 20]! ^= 1
      gateway.receive(forged, attacker)
    }
    assert.deepStrictEqual(gateway.wireguard.stats()[0]?.endpoint, agent.endpoint)
    assert.strictEqual(gateway.wireguard.counters.replayedHandshakes, 1)
    assert.strictEqual(gateway.wireguard.counters.replayed, 1)
    assert.strictEqual(gateway.wireguard.counters.forged, 1)
    assert.strictEqual(gateway.wireguard.counters.wrongMac, 1)

    agent.endpoint = { host: "198.51.100.99", port: 41_000 }
    agent.send(gateway, 1)
    world.runUntil(1_100)
    gateway.send(agent, 2)
    world.runUntil(1_200)
    assert.deepStrictEqual(agent.received, [2])
    assert.deepStrictEqual(gateway.events.at(-1), {
      type: "endpointChanged",
      publicKey: agent.wireguard.publicKey,
      endpoint: agent.endpoint
    })
  })

  it("an endpoint that changes with each packet is reported once a second", () => {
    const world = new NoiseWorld(28)
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(2_000)
    const before = gateway.events.length
    for (let number = 0; number < 100; number += 1) {
      agent.endpoint = { ...agent.endpoint, port: 50_000 + number }
      agent.send(gateway, number)
      world.runUntil(world.now + 30)
    }
    assert.strictEqual(gateway.received.length, 100)
    assert.isAtMost(gateway.events.length - before, 4)
    assert.deepStrictEqual(gateway.wireguard.stats()[0]?.endpoint, agent.endpoint)
  })

  it("a late packet from the address before does not change the endpoint back", () => {
    const world = new NoiseWorld(12)
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(1_000)
    const before = agent.endpoint
    world.trouble = { loss: 1, duplication: 0, maxDelay: 0 }
    agent.send(gateway, 1)
    const late = world.datagrams.at(-1)!.datagram
    world.trouble = { loss: 0, duplication: 0, maxDelay: 0 }
    agent.endpoint = { host: "198.51.100.99", port: 41_000 }
    agent.send(gateway, 2)
    world.runUntil(1_100)
    gateway.receive(Buffer.from(late), before)
    assert.deepStrictEqual(gateway.received, [2, 1])
    assert.deepStrictEqual(gateway.wireguard.stats()[0]?.endpoint, agent.endpoint)
  })

  it("an initiation that is replayed to a restarted gateway does not move a configured endpoint", () => {
    const world = new NoiseWorld(13)
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(1_000)
    gateway.setPeers(gateway.peer(agent, agent.endpoint, 0))
    gateway.restart()
    gateway.receive(Buffer.from(world.datagrams[0]!.datagram), { host: "192.0.2.66", port: 6 })
    assert.deepStrictEqual(gateway.wireguard.stats()[0]?.endpoint, agent.endpoint)
  })

  it("a changed configured endpoint is used at once, and an unchanged one does not replace a learned one", () => {
    const world = new NoiseWorld(14)
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(1_000)
    const oldEndpoint = gateway.endpoint
    gateway.endpoint = { host: "203.0.113.2", port: 51_820 }
    agent.setPeers(agent.peer(gateway, gateway.endpoint, 25))
    world.runUntil(2_200)
    assert.isAbove(agent.handshakes, 1)
    agent.send(gateway, 1)
    world.runUntil(2_300)
    assert.deepStrictEqual(gateway.received, [1])

    gateway.endpoint = { host: "203.0.113.3", port: 51_820 }
    gateway.send(agent, 2)
    world.runUntil(2_400)
    agent.setPeers(agent.peer(gateway, { host: "203.0.113.2", port: 51_820 }, 25))
    assert.deepStrictEqual(agent.wireguard.stats()[0]?.endpoint, gateway.endpoint)
    agent.setPeers(agent.peer(gateway, oldEndpoint, 25))
    assert.deepStrictEqual(agent.wireguard.stats()[0]?.endpoint, oldEndpoint)
  })

  it("renewed handshakes begin within a second, and the session serves until then", () => {
    const world = new NoiseWorld(15)
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(3_000)
    for (let i = 0; i < 5; i += 1) agent.wireguard.renewHandshakes(agent.now)
    agent.send(gateway, 1)
    world.runUntil(3_100)
    assert.deepStrictEqual(gateway.received, [1])
    assert.strictEqual(agent.handshakes, 2)
    gateway.wireguard.renewHandshakes(gateway.now)
    world.runUntil(4_500)
    assert.strictEqual(agent.handshakes, 3)
  })
})

describe("setPeers", () => {
  it("a peer that stays keeps its session, and a removed one is unreachable and silent", () => {
    const world = new NoiseWorld(16)
    const { agent, gateway } = agentAndGateway(world)
    const other = new Machine(world, "other", "10.0.0.3", { host: "198.51.100.8", port: 40_000 })
    world.runUntil(1_000)
    gateway.setPeers(gateway.peer(other, undefined, 0), gateway.peer(agent, undefined, 0))
    gateway.send(agent, 1)
    world.runUntil(1_100)
    assert.deepStrictEqual(agent.received, [1])
    assert.strictEqual(agent.handshakes, 1)
    gateway.setPeers()
    const before = world.datagrams.length
    assert.isFalse(gateway.wireguard.send(gateway.now, ipv4Packet(gateway.address, agent.address, 2)))
    agent.send(gateway, 3)
    world.runUntil(5_000)
    assert.deepStrictEqual(types(world, before), ["agent 4"])
    assert.strictEqual(gateway.wireguard.nextTimer(), Infinity)
    assert.strictEqual(gateway.wireguard.counters.unknownIndex, 1)
  })

  it("an invalid peer is rejected by a sentence, and nothing changes", () => {
    const world = new NoiseWorld(17)
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(1_000)
    const peer = gateway.peer(agent, undefined, 0)
    for (
      const [bad, sentence] of [
        [{ ...peer, publicKey: "AAAA" }, "cannot use the public key AAAA of a peer: it is not 32 bytes in base64"],
        [{ ...peer, address: "10.0.0" }, "cannot use peer address 10.0.0: it is not an IPv4 address"],
        [{ ...peer, address: "10.0.0.256" }, "cannot use peer address 10.0.0.256: it is not an IPv4 address"],
        [{ ...peer, publicKey: gateway.wireguard.publicKey }, "it has the key of this device"]
      ] as const
    ) assert.throws(() => gateway.wireguard.setPeers(gateway.now, [bad]), sentence)
    gateway.send(agent, 1)
    world.runUntil(1_100)
    assert.deepStrictEqual(agent.received, [1])
  })

  it("a packet from another address than the peer's is not delivered, nor one that is cut off or not IPv4", () => {
    const world = new NoiseWorld(18)
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(1_000)
    const good = ipv4Packet(agent.address, gateway.address, 1)
    const long = Buffer.from(good)
    long.writeUInt16BE(100, 2)
    const short = Buffer.from(good)
    short.writeUInt16BE(19, 2)
    const ipv6 = Buffer.from(good)
    ipv6[0] = 0x60
    for (const packet of [ipv4Packet("10.0.0.9", gateway.address, 2), long, short, ipv6]) {
      assert.isTrue(agent.wireguard.send(agent.now, packet))
    }
    assert.isFalse(agent.wireguard.send(agent.now, Buffer.alloc(19)))
    assert.isFalse(agent.wireguard.send(agent.now, Buffer.alloc(70_000)))
    world.runUntil(1_100)
    assert.deepStrictEqual(gateway.received, [])
    assert.strictEqual(gateway.wireguard.counters.wrongSource, 4)
    agent.wireguard.send(agent.now, good)
    world.runUntil(1_200)
    assert.deepStrictEqual(gateway.received, [1])
  })

  it("1,000 peers are configured and connected, at most 64 of them in one tick", () => {
    const world = new NoiseWorld(19)
    const gateway = new Machine(world, "gateway", "10.0.0.1", { host: "203.0.113.1", port: 51_820 })
    const peers = Array.from({ length: 1_000 }, (_, i) => ({
      publicKey: Buffer.from(`peer ${i}`.padEnd(32)).toString("base64"),
      address: `10.1.${i >> 8}.${i & 255}`,
      endpoint: { host: "192.0.2.1", port: 1_000 + i },
      keepaliveSeconds: 25
    }))
    gateway.setPeers(...peers)
    gateway.wireguard.tick(0)
    assert.lengthOf(world.datagrams, 64)
    assert.strictEqual(gateway.wireguard.nextTimer(), 0)
    gateway.setPeers()
    assert.strictEqual(gateway.wireguard.nextTimer(), Infinity)
  })
})

describe("an end under load", () => {
  const load = { perSecond: 0, burst: 0, provenPerSecond: 100, perSource: 10 }

  it("sends a cookie, with which the next initiation is answered", () => {
    const world = new NoiseWorld(20)
    const { agent, gateway } = agentAndGateway(world, 25, { limits: load })
    world.runUntil(6_000)
    assert.deepStrictEqual(types(world), ["agent 1", "gateway 3", "agent 1", "gateway 2", "agent 4"])
    assert.strictEqual(gateway.wireguard.counters.cookieRepliesSent, 1)
    agent.send(gateway, 1)
    world.runUntil(6_100)
    assert.deepStrictEqual(gateway.received, [1])
  })

  it("accepts a cookie from the address that it was sent to only, and for 120 s", () => {
    const world = new NoiseWorld(21)
    const { agent, gateway } = agentAndGateway(world, 25, { limits: load })
    world.runUntil(6_000)
    const proven = world.datagrams[2]!.datagram
    const answers = () => gateway.wireguard.counters.cookieRepliesSent
    const before = answers()
    gateway.receive(Buffer.from(proven), { ...agent.endpoint, port: 1 })
    assert.strictEqual(answers(), before + 1)
    gateway.receive(Buffer.from(proven), agent.endpoint)
    assert.strictEqual(answers(), before + 1)
    assert.strictEqual(gateway.wireguard.counters.replayedHandshakes, 1)
    gateway.wireguard.receive(gateway.now + 120_000, Buffer.from(proven), agent.endpoint)
    assert.strictEqual(answers(), before + 2)
  })

  it("uses a cookie for 115 s, and gets a new one after 120 s", () => {
    const world = new NoiseWorld(29)
    const { agent, gateway } = agentAndGateway(world, 25, { limits: load })
    world.runUntil(6_000)
    for (const [seconds, cookies] of [[110, 1], [116, 2]] as const) {
      world.runUntil(seconds * 1_000)
      agent.wireguard.renewHandshakes(agent.now)
      world.runUntil(world.now + 500)
      assert.strictEqual(gateway.wireguard.counters.cookieRepliesSent, cookies, `cookies after ${seconds} s`)
    }
    world.runUntil(1_000_000)
    assert.isAtLeast(agent.handshakes, 9)
  })

  it("checks eight forged responses to one initiation, and no ninth", () => {
    const world = new NoiseWorld(31)
    world.trouble = { loss: 0, duplication: 0, maxDelay: 0 }
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(0)
    world.trouble = { loss: 1, duplication: 0, maxDelay: 0 }
    world.runUntil(100)
    const response = world.datagrams[1]!.datagram
    const mac1 = new Blake2sMac(hash(Buffer.from("mac1----"), Buffer.from(agent.wireguard.publicKey, "base64")))
    for (let number = 0; number < 8; number += 1) {
      const forged = Buffer.from(response)
      forged[44 + number]! ^= 1
      forged.set(mac1.digest(forged, 60), 60)
      agent.receive(forged, gateway.endpoint)
    }
    agent.receive(Buffer.from(response), gateway.endpoint)
    assert.strictEqual(agent.wireguard.counters.rejectedHandshakes, 9)
    assert.strictEqual(agent.handshakes, 0)
    world.trouble = noTrouble
    world.runUntil(6_000)
    assert.strictEqual(agent.handshakes, 1)
  })

  it("reads a cookie reply once", () => {
    const world = new NoiseWorld(30)
    const { agent, gateway } = agentAndGateway(world, 25, { limits: load })
    world.runUntil(100)
    agent.receive(Buffer.from(world.datagrams[1]!.datagram), gateway.endpoint)
    assert.strictEqual(agent.wireguard.counters.rejectedHandshakes, 1)
  })

  it("a forged cookie reply changes nothing", () => {
    const world = new NoiseWorld(22)
    const { agent } = agentAndGateway(world, 25, { limits: load })
    world.trouble = { loss: 1, duplication: 0, maxDelay: 0 }
    world.runUntil(100)
    const reply = Buffer.alloc(64, 7)
    reply.writeUInt32LE(3, 0)
    world.datagrams[0]!.datagram.copy(reply, 4, 4, 8)
    agent.receive(reply, { host: "203.0.113.1", port: 51_820 })
    assert.strictEqual(agent.wireguard.counters.rejectedHandshakes, 1)
    world.runUntil(6_000)
    assert.isTrue(world.datagrams.at(-1)!.datagram.subarray(132).equals(Buffer.alloc(16)))
  })
})
