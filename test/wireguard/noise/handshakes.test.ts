/** Handshakes, timers and clocks of WireGuard machines in virtual time. */
import { rejectAfterMessages, rekeyAfterMessages } from "#wireguard/noise/constants.ts"
import { Session } from "#wireguard/noise/Session.ts"
import { assert, describe, it } from "@effect/vitest"
import { agentAndGateway, ipv4Packet, Machine, NoiseWorld } from "./NoiseWorld.ts"

const types = (world: NoiseWorld, from = 0) =>
  world.datagrams.slice(from).map(({ from, datagram }) => `${from} ${datagram[0]}`)

describe("the first handshake", () => {
  it("an agent with keepalive shakes hands at once, and packets pass both ways", () => {
    const world = new NoiseWorld(1)
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(200)
    assert.deepStrictEqual(types(world), ["agent 1", "gateway 2", "agent 4"])
    gateway.send(agent, 1)
    agent.send(gateway, 2)
    world.runUntil(400)
    assert.deepStrictEqual([agent.received, gateway.received], [[1], [2]])
    assert.deepStrictEqual(gateway.wireguard.stats()[0]?.endpoint, agent.endpoint)
    assert.closeTo(agent.wireguard.stats()[0]?.lastHandshakeAt ?? 0, agent.wallOffset, 100)
    assert.strictEqual(gateway.wireguard.stats()[0]?.receivedBytes, agent.wireguard.stats()[0]?.sentBytes)
    assert.strictEqual(agent.wireguard.stats()[0]?.receivedBytes, gateway.wireguard.stats()[0]?.sentBytes)
  })

  it("without keepalive the first packet starts the handshake, and the packets that wait arrive in order", () => {
    const world = new NoiseWorld(2)
    const { agent, gateway } = agentAndGateway(world, 0)
    world.runUntil(60_000)
    assert.deepStrictEqual(types(world), [])
    for (let number = 1; number <= 5; number += 1) agent.send(gateway, number)
    assert.deepStrictEqual(types(world), ["agent 1"])
    world.trouble = { loss: 0, duplication: 0, maxDelay: 0 }
    world.runUntil(60_100)
    assert.deepStrictEqual(gateway.received, [1, 2, 3, 4, 5])
  })

  it("without keepalive 18 handshakes are sent in 90 s, and the packets that wait are dropped", () => {
    const world = new NoiseWorld(3)
    const { agent, gateway } = agentAndGateway(world, 0)
    world.trouble = { loss: 1, duplication: 0, maxDelay: 0 }
    agent.send(gateway, 1)
    world.runUntil(1_000_000)
    const times = world.datagrams.map(({ at }) => at)
    assert.lengthOf(times, 18)
    for (const [i, time] of times.slice(1).entries()) {
      assert.isTrue(time - times[i]! >= 5_000 && time - times[i]! <= 5_334)
    }
    assert.strictEqual(agent.wireguard.counters.droppedPackets, 1)
    assert.strictEqual(agent.wireguard.nextTimer(), Infinity)
    assert.deepStrictEqual(agent.events.map(({ type }) => type), ["peerSilent"])
  })

  it("with keepalive handshakes are sent without end, and the peer is reported silent once", () => {
    const world = new NoiseWorld(4)
    const { agent } = agentAndGateway(world)
    world.trouble = { loss: 1, duplication: 0, maxDelay: 0 }
    world.runUntil(1_000_000)
    assert.isAbove(world.datagrams.length, 180)
    assert.deepStrictEqual(agent.events.map(({ type }) => type), ["peerSilent"])
  })

  it("an initiation that follows another one within 20 ms is not answered, and a later one is", () => {
    const world = new NoiseWorld(27)
    world.trouble = { loss: 0, duplication: 0, maxDelay: 0 }
    const { agent, gateway } = agentAndGateway(world)
    for (const [time, answers] of [[10, 1], [20, 1], [60, 2]] as const) {
      world.runUntil(time)
      assert.strictEqual(types(world).filter((type) => type === "gateway 2").length, answers, `${time} ms`)
      agent.restart()
    }
    assert.strictEqual(gateway.wireguard.counters.replayedHandshakes, 1)
  })

  it("initiations of both ends at the same moment lead to a working session at once", () => {
    for (let seed = 0; seed < 20; seed += 1) {
      const world = new NoiseWorld(seed)
      const one = new Machine(world, "one", "10.0.0.1", { host: "192.0.2.1", port: 1 })
      const two = new Machine(world, "two", "10.0.0.2", { host: "192.0.2.2", port: 2 })
      one.setPeers(one.peer(two, two.endpoint, 0))
      two.setPeers(two.peer(one, one.endpoint, 0))
      one.send(two, 1)
      two.send(one, 1)
      world.runUntil(500)
      for (let number = 2; number <= 10; number += 1) {
        one.send(two, number)
        two.send(one, number)
        world.runUntil(world.now + 500)
      }
      assert.deepStrictEqual([one.received.length, two.received.length], [10, 10], `seed ${seed}`)
    }
  })
})

describe("keys are renewed", () => {
  it("by the initiator after 120 s, while packets pass without a gap", () => {
    const world = new NoiseWorld(5)
    const { agent, gateway } = agentAndGateway(world, 0)
    for (let second = 1; second <= 700; second += 1) {
      agent.send(gateway, second)
      gateway.send(agent, second)
      world.runUntil(second * 1_000)
    }
    const all = Array.from({ length: 700 }, (_, i) => i + 1)
    assert.deepStrictEqual(agent.received, all)
    assert.deepStrictEqual(gateway.received, all)
    assert.strictEqual(agent.handshakes, 6)
    assert.isTrue(world.datagrams.every(({ datagram, from }) => datagram[0] !== 1 || from === "agent"))
    const isRenewal = agent.events.map((event) => event.type === "handshakeCompleted" && event.isRenewal)
    assert.deepStrictEqual(isRenewal, [false, true, true, true, true, true])
  })

  it("by an initiator that only receives, 165 s after the handshake", () => {
    const world = new NoiseWorld(6)
    const { agent, gateway } = agentAndGateway(world, 0)
    agent.send(gateway, 0)
    world.runUntil(1_000)
    // Keepalives of the agent would renew the keys, but the first one is due at 170 s.
    for (let second = 100; second <= 168; second += 1) {
      world.runUntil(second * 1_000)
      if (second >= 160) gateway.send(agent, second)
    }
    assert.strictEqual(agent.handshakes, 2)
  })

  it("by either end after the limit of messages, which no message exceeds", () => {
    const keys = () => ({ send: Buffer.alloc(32), receive: Buffer.alloc(32) })
    for (const isInitiator of [true, false]) {
      const session = new Session(0, keys(), { localIndex: 1, remoteIndex: 2, isInitiator })
      session.seal(Buffer.alloc(0))
      assert.isFalse(session.isRenewalDue(119_999))
      assert.strictEqual(session.isRenewalDue(120_000), isInitiator)
      session.sentMessages = rekeyAfterMessages
      assert.isTrue(session.isRenewalDue(0))
      assert.isTrue(session.canSend(0))
      session.sentMessages = rejectAfterMessages
      assert.isFalse(session.canSend(0))
    }
  })

  it("expired keys send and open nothing, and all keys are erased after 540 s", () => {
    const world = new NoiseWorld(7)
    const { agent, gateway } = agentAndGateway(world, 0)
    agent.send(gateway, 1)
    world.runUntil(1_000)
    agent.send(gateway, 2)
    const late = world.datagrams.at(-1)!.datagram
    world.runUntil(181_000)
    gateway.wireguard.receive(gateway.now, Buffer.from(late), agent.endpoint)
    assert.strictEqual(gateway.wireguard.counters.expired, 1)
    world.runUntil(600_000)
    gateway.wireguard.receive(gateway.now, Buffer.from(late), agent.endpoint)
    assert.strictEqual(gateway.wireguard.counters.unknownIndex, 1)
    assert.deepStrictEqual([agent.wireguard.nextTimer(), gateway.wireguard.nextTimer()], [Infinity, Infinity])
  })
})

describe("keepalives", () => {
  it("a packet without an answer is answered by one keepalive after 10 s", () => {
    const world = new NoiseWorld(8)
    const { agent, gateway } = agentAndGateway(world, 0)
    agent.send(gateway, 1)
    world.runUntil(1_000)
    const before = world.datagrams.length
    agent.send(gateway, 2)
    agent.send(gateway, 3)
    world.runUntil(60_000)
    assert.deepStrictEqual(types(world, before), ["agent 4", "agent 4", "gateway 4"])
    assert.closeTo(world.datagrams.at(-1)!.at, 10_000, 50)
  })

  it("a packet that is answered by another packet causes no keepalive", () => {
    const world = new NoiseWorld(26)
    const { agent, gateway } = agentAndGateway(world, 0)
    agent.send(gateway, 1)
    world.runUntil(1_000)
    const before = world.datagrams.length
    agent.send(gateway, 2)
    world.runUntil(2_000)
    gateway.send(agent, 3)
    world.runUntil(11_500)
    assert.deepStrictEqual(types(world, before), ["agent 4", "gateway 4"])
  })

  it("a packet without answer or keepalive leads to a new handshake after 15 s", () => {
    const world = new NoiseWorld(9)
    const { agent, gateway } = agentAndGateway(world, 0)
    agent.send(gateway, 1)
    world.runUntil(20_000)
    gateway.setPeers()
    const before = world.datagrams.length
    agent.send(gateway, 2)
    world.runUntil(37_000)
    assert.deepStrictEqual(types(world, before), ["agent 4", "agent 1"])
    assert.isTrue(world.datagrams.at(-1)!.at >= 35_000 && world.datagrams.at(-1)!.at <= 35_334)
  })

  it("an idle agent sends a keepalive every 25 s, and renews its keys", () => {
    const world = new NoiseWorld(10)
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(1_000_000)
    const sent = world.datagrams.filter(({ from }) => from === "agent")
    for (const [i, { at }] of sent.slice(1).entries()) assert.isAtMost(at - sent[i]!.at, 25_001)
    assert.isBelow(sent.length, 62)
    assert.isAtLeast(gateway.handshakes, 6)
    assert.isAtMost(agent.handshakes, 8)
  })
})

describe("clocks", () => {
  it("an initiator whose wall clock is set back by a day still renews its keys", () => {
    const world = new NoiseWorld(23)
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(1_000)
    agent.wallOffset -= 86_400_000
    for (let i = 0; i < 5; i += 1) {
      agent.wireguard.renewHandshakes(agent.now)
      world.runUntil(world.now + 2_000)
    }
    assert.strictEqual(gateway.handshakes, 6)
    assert.strictEqual(gateway.wireguard.counters.replayedHandshakes, 0)
  })

  it("a jump of the monotonic clock by 10 minutes leads to a new handshake at once", () => {
    const world = new NoiseWorld(24)
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(1_000)
    agent.monotonicOffset += 600_000
    world.runUntil(1_100)
    assert.strictEqual(agent.handshakes, 2)
    agent.send(gateway, 1)
    world.runUntil(1_200)
    assert.deepStrictEqual(gateway.received, [1])
  })

  it("a monotonic clock that runs backwards stops nothing", () => {
    const world = new NoiseWorld(25)
    const { agent, gateway } = agentAndGateway(world)
    world.runUntil(100_000)
    agent.wireguard.send(0, ipv4Packet(agent.address, gateway.address, 1))
    world.runUntil(100_100)
    assert.deepStrictEqual(gateway.received, [1])
  })
})
