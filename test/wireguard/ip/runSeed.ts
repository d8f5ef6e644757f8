/** One seeded run of two stacks through faults, with the promises that hold. */
import { cleanLink, type IpHost, type IpWorld, twoHosts } from "./IpWorld.ts"
import { type EndPair, type EndPlan, openPair, type TestEnd } from "./TestEnd.ts"

const troubleMillis = 60_000
/** Time after the trouble in which all connections end: timeout, keepalive and TIME_WAIT. */
const recoveryMillis = 400_000

export interface SeedResult {
  readonly violation: string | undefined
  /** Connections whose both directions ended in order. */
  readonly done: number
  readonly failed: number
}

const runSeed = (seed: number): SeedResult => {
  const { left, right, world } = twoHosts(seed)
  const { chance, int, next, pick } = world.random
  // Without these faults, each connection must succeed.
  const isPeaceful = chance(0.5)
  world.link = {
    ...cleanLink,
    loss: pick([0, 0.01, 0.05, 0.2]) * next(),
    duplication: pick([0, 0.05, 0.2]) * next(),
    delay: pick([0.2, 5, 40, 150]),
    jitter: pick([0, 0, 5, 100]),
    rate: pick([Infinity, 100, 1_000, 10_000]),
    maxBytes: chance(0.1) ? 1_240 : Infinity
  }
  const pairs: Array<EndPair> = []
  for (let number = int(4) + 1; number > 0; number -= 1) {
    world.at(int(20_000), () => {
      const [from, to] = chance(0.5) ? [left, right] : [right, left]
      // Half-close in both orders: at most one end waits for the other's end.
      const last = pick(["neither", "active", "passive"])
      const plans = {
        active: planOf(world, isPeaceful, last === "active"),
        passive: planOf(world, isPeaceful, last === "passive")
      }
      pairs.push(openPair(from, to, plans, 20_000 + number, pick([0, 0, 300, 2_000])))
    })
  }
  if (!isPeaceful) {
    for (let number = int(4) + 1; number > 0; number -= 1) {
      const host = pick([left, right])
      const fault = pick(faults)
      world.at(int(troubleMillis), () => fault(world, host))
    }
  }
  world.runUntil(troubleMillis)
  world.link = cleanLink
  for (const host of [left, right]) host.stack.setLocalAddresses([host.address])
  world.runUntil(troubleMillis + recoveryMillis)
  const ends = pairs.flatMap(({ active, passive }) => passive === undefined ? [active] : [active, passive])
  return {
    violation: pairs.map((pair) => checkPair(pair, isPeaceful)).find(Boolean) ?? checkRest([left, right], ends),
    done: ends.filter(({ outcome }) => outcome === "done").length,
    failed: ends.filter(({ outcome }) => outcome !== "done").length
  }
}

function planOf(
  { random: { chance, int, pick } }: IpWorld,
  isPeaceful: boolean,
  endsLast: boolean
): Partial<EndPlan> {
  return {
    bytes: pick([0, 1, 1_240, int(5_000), int(100_000), int(400_000)]),
    chunkBytes: pick([100, 1_240, 10_000, 65_536]),
    readDelay: pick([0, 0, 1, 50]),
    endsLast,
    resetsAt: !isPeaceful && chance(0.1) ? int(50_000) : Infinity,
    keepAlive: 20_000
  }
}

function checkPair({ active, passive }: EndPair, isPeaceful: boolean): string | undefined {
  for (const end of passive === undefined ? [active] : [active, passive]) {
    if (end.violation !== undefined) return end.violation
    if (end.outcome === "open" && !end.isGone) return "a connection never ends"
    const other = end === active ? passive : active
    if (isPeaceful && end.outcome !== "done" && !hasLostLastAck(end, other))
      return `a connection failed with ${end.outcome} on a link that works`
  }
  return checkDone(active, passive) ?? (passive === undefined ? undefined : checkDone(passive, active))
}

/** All is delivered, and only the acknowledgement of the last FIN was lost until the other end had forgotten the connection. */
const hasLostLastAck = (end: TestEnd, other: TestEnd | undefined): boolean =>
  end.outcome === "ECONNRESET" && end.hasEnded && end.received === other?.plan.bytes && other.outcome === "done"

/** An end that reports an orderly end has received and delivered everything. */
function checkDone(end: TestEnd, other: TestEnd | undefined): string | undefined {
  if (end.outcome !== "done" || end.hasReset) return undefined
  if (other === undefined) return "an end is done without the other one"
  if (!end.hasEnded || end.received !== other.plan.bytes) return `an end is done with ${end.received} received bytes`
  if (!other.hasEnded || other.received !== end.plan.bytes) return `the other end has ${other.received} bytes`
  return undefined
}

function checkRest(hosts: ReadonlyArray<IpHost>, ends: ReadonlyArray<TestEnd>): string | undefined {
  for (const { stack } of hosts) {
    const { connections, memoryBytes } = stack.counters
    if (connections > 0) return `${connections} connections stay`
    if (memoryBytes !== 0) return `${memoryBytes} bytes stay`
    if (stack.nextTimer() !== Infinity) return "a timer stays"
  }
  return ends.some(({ outcome }) => outcome === "EHOSTUNREACH") ? "no port was free" : undefined
}

const faults: ReadonlyArray<(world: IpWorld, host: IpHost) => void> = [
  (_world, host) => host.restart(),
  (world, host) => host.jump(world.random.pick([500, 5_000, 100_000])),
  (world, host) => {
    host.stack.setLocalAddresses([])
    host.scheduleFlush()
    world.after(world.random.int(5_000), () => host.stack.setLocalAddresses([host.address]))
  },
  (world) => {
    const before = world.link
    world.link = { ...before, loss: 1 }
    world.after(world.random.int(30_000), () => void (world.link = before))
  },
  (world) => {
    world.link = { ...world.link, maxBytes: world.random.pick([700, 1_000, 1_240]) }
  }
]

/** Runs seeds. Returns a line for each that breaks a promise, and the number of connections that succeeded. */
export const runSeeds = (
  seeds: Iterable<number>
): { readonly violations: ReadonlyArray<string>; readonly done: number } => {
  const violations: Array<string> = []
  let done = 0
  for (const seed of seeds) {
    const result = runSeed(seed)
    if (result.violation !== undefined) violations.push(`seed ${seed}: ${result.violation}`)
    done += result.done
  }
  return { violations, done }
}

export const seedRange = (first: number, count: number): ReadonlyArray<number> =>
  Array.from({ length: count }, (_, index) => first + index)
