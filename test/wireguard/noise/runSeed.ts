/** One seeded run of two WireGuard machines through trouble, with the promises that hold. */
import { agentAndGateway, type Machine, NoiseWorld, noTrouble } from "./NoiseWorld.ts"

const troubleMillis = 400_000
const maxEvents = 14
/** Time after the trouble in which both ends agree on a session: 15 s without an answer, then two handshakes. */
const recoveryMillis = 25_000
const proofMillis = 10_000

/** Undefined if all promises held, otherwise the broken one. */
export const runSeed = (
  seed: number
): { readonly violation: string | undefined; readonly lines: ReadonlyArray<string> } => {
  const world = new NoiseWorld(seed)
  const { chance, int, pick } = world.random
  const { agent, gateway } = agentAndGateway(world, pick([0, 5, 25]))
  if (chance(0.3)) gateway.setPeers(gateway.peer(agent, agent.endpoint, pick([0, 25])))
  const lines: Array<string> = []
  const machines = [agent, gateway]
  const sent = new Map(
    machines.map((machine) => [machine, [] as Array<{ readonly at: number; readonly number: number }>])
  )
  const other = (machine: Machine) => machine === agent ? gateway : agent

  /** Both ends send a packet every `interval` until `end`. */
  const traffic = (end: number, interval: () => number) => {
    for (const machine of machines) {
      const next = () => {
        if (world.now >= end) return
        const packets = sent.get(machine)!
        if (!machine.isSuspended) packets.push({ at: world.now, number: packets.length })
        machine.send(other(machine), packets.length - 1, 60 + int(40))
        world.at(world.now + interval(), next)
      }
      world.at(world.now + interval(), next)
    }
  }

  for (let i = int(maxEvents) + 1; i > 0; i -= 1) {
    const at = int(troubleMillis)
    const machine = pick(machines)
    const fault = pick(faults)
    world.at(at, () => lines.push(`${at} ${machine.name} ${fault(world, machine)}`))
  }
  traffic(troubleMillis, () => pick([200, 2_000, 2_000, 20_000]) * world.random.next())
  world.runUntil(troubleMillis)

  world.trouble = noTrouble
  for (const machine of machines) wake(world, machine)
  traffic(troubleMillis + recoveryMillis + proofMillis, () => 500)
  world.runUntil(troubleMillis + recoveryMillis + proofMillis + 1_000)
  return { violation: machines.map((machine) => check(machine, sent.get(other(machine))!)).find(Boolean), lines }
}

function check(
  machine: Machine,
  sent: ReadonlyArray<{ readonly at: number; readonly number: number }>
): string | undefined {
  const received = new Set(machine.received)
  if (received.size !== machine.received.length) return `${machine.name} received a packet twice`
  const usage = machine.wireguard.usage()
  if (usage.indexes > 4 || usage.waitingPackets > 128) return `${machine.name} holds ${JSON.stringify(usage)}`
  const lost = sent.filter(({ at, number }) => at >= troubleMillis + recoveryMillis && !received.has(number))
  return lost.length === 0 ? undefined : `${machine.name} did not receive ${lost.length} packets after the trouble`
}

/** A suspended machine runs again, and notices the lost time by its wall clock. */
function wake(world: NoiseWorld, machine: Machine): void {
  if (!machine.isSuspended) return
  machine.isSuspended = false
  machine.monotonicOffset = machine.suspendedAt - world.now
  machine.wireguard.renewHandshakes(machine.now)
}

const faults: ReadonlyArray<(world: NoiseWorld, machine: Machine) => string> = [
  (world) => {
    world.trouble = {
      loss: world.random.next() * 0.2,
      duplication: world.random.next() * 0.2,
      maxDelay: world.random.pick([0, 20, 500, 3_000])
    }
    return `trouble ${JSON.stringify(world.trouble)}`
  },
  (world, machine) => {
    // The gateway's address is fixed; a NAT gives the agent another one.
    if (machine.name !== "agent") return "keeps its address"
    machine.endpoint = { host: `198.51.100.${world.random.int(250)}`, port: 1_024 + world.random.int(60_000) }
    return "has another address"
  },
  (world, machine) => {
    // NTP has set the clock right before a restarted program begins.
    wake(world, machine)
    machine.wallOffset = machine.latestWallOffset
    machine.restart()
    return "restarts"
  },
  (world, machine) => {
    machine.wallOffset += world.random.pick([-86_400_000, -1_000, 1_000, 3_600_000])
    machine.latestWallOffset = Math.max(machine.latestWallOffset, machine.wallOffset)
    return "sets its wall clock"
  },
  (world, machine) => {
    if (machine.isSuspended) return "is suspended"
    machine.monotonicOffset += world.random.pick([1_000, 100_000, 600_000])
    return "loses time"
  },
  (world, machine) => {
    if (machine.isSuspended) return "is suspended already"
    machine.suspendedAt = machine.now
    machine.isSuspended = true
    world.at(world.now + world.random.int(200_000), () => wake(world, machine))
    return "is suspended"
  },
  (world) => {
    const before = world.trouble
    world.trouble = { ...before, loss: 1 }
    world.at(Math.min(world.now + world.random.int(100_000), troubleMillis), () => void (world.trouble = before))
    return "the network is down"
  }
]
