/** Runs one seed: random commands and faults, then healing, then liveness checks. */
import { type ClientRef, formatClientRef } from "#schema/ids.ts"
import { gatewayCertificates, operatorCertificates } from "./certificates.ts"
import { FaultInjector } from "./FaultInjector.ts"
import { withDeterminism } from "./determinism.ts"
import { Client } from "./Client.ts"
import { hashApiKey } from "#crypto/apiKeys.ts"
import { commands } from "./commands.ts"
import { clearDatabaseFaults } from "./databaseFaults.ts"
import { type Credential, credential } from "./Credential.ts"
import { Database } from "./SimulatedDatabase.ts"
import { checkAuthTimeout, checkDeliveryOrder, checkHealed, checkReleased } from "./liveness.ts"
import { Node } from "./Node.ts"
import { Operator } from "./Operator.ts"
import { Random } from "./Random.ts"
import type { SimulationState } from "./SimulationState.ts"
import { type Violation, World } from "./World.ts"

export interface Outcome {
  readonly seed: number
  readonly violation: Violation | undefined
  readonly hash: number
  readonly counters: ReadonlyMap<string, number>
  readonly lines: ReadonlyArray<string>
}

export interface Options {
  readonly traced?: boolean
  /** Numbers of commands to skip; used to find the commands that a failure needs. */
  readonly without?: ReadonlySet<number>
}

/** Runs one seed. Equal seeds and options give equal outcomes. */
export const simulate = (seed: number, { traced = false, without = new Set() }: Options = {}): Outcome => {
  // Generated once per process, before a seed controls randomness.
  gatewayCertificates()
  operatorCertificates()
  const simulation = new Simulation(seed, traced)
  const { world } = simulation
  withDeterminism(Random.of(seed, 1), () => {
    try {
      simulation.run(without)
    } catch (error) {
      world.violate("the simulator failed", error instanceof Error ? error.stack ?? error.message : String(error))
    }
  })
  return { seed, violation: world.violation, hash: world.hash, counters: world.counters, lines: world.lines ?? [] }
}

export class Simulation implements SimulationState {
  readonly seed: number
  readonly world: World
  readonly database: Database
  readonly nodes: ReadonlyArray<Node>
  readonly operator: Operator
  readonly faultInjector: FaultInjector
  readonly clients: Array<Client> = []
  /** Every key that was ever issued, valid or not. */
  readonly keys: Array<Credential> = []
  /** Every first `auth` of a connection. */
  readonly authAttempts: Array<{ readonly name: string; readonly at: number }> = []
  /** When the database, or the connection to it, last failed. */
  databaseFaultAt = Number.NEGATIVE_INFINITY

  constructor(seed: number, traced: boolean) {
    this.seed = seed
    this.world = new World(seed, traced)
    this.database = new Database(this.world)
    const turnMillis = this.world.random.chance(0.2) ? 1 : 0
    const nodes = this.world.random.chance(0.4) ? 2 : 1
    if (nodes > 1) this.world.count("two nodes")
    this.nodes = Array.from({ length: nodes }, () => new Node(this.world, this.database, turnMillis))
    this.operator = new Operator(this)
    this.faultInjector = new FaultInjector(this)
  }

  run(without: ReadonlySet<number>): void {
    const { world } = this
    this.#setUp()
    const count = world.random.between(20, 40)
    if (world.random.chance(0.3)) world.breakProbability = 0.3
    const enabled = commands.filter(() => !world.random.chance(0.25))
    for (let step = 0; step < count && world.violation === undefined; step++) {
      // Each command has its own random sequence, so that skipping one command leaves the others unchanged.
      const random = Random.of(this.seed, 1_000 + step)
      const [, command] = random.weighted(enabled.map((item) => [item[0], item])) ?? []
      if (command === undefined || without.has(step)) continue
      world.trace(() => `--- ${step} ${command.name}`)
      command(this, random)
      world.advance(drawPause(random))
      this.#checkAfterCommand()
    }
    if (world.violation === undefined) this.#heal()
    if (world.violation === undefined) checkHealed(this)
    for (const node of this.nodes) node.countMetrics()
  }

  /** A random node that accepts connections. */
  chooseNode(): Node | undefined {
    const serving = this.nodes.filter((node) => node.isServing)
    return this.world.random.pick(serving)
  }

  get node(): Node | undefined {
    return this.nodes.find((node) => node.isServing)
  }

  addKey(ref: ClientRef, text: string): Credential {
    const key = credential(ref, text)
    this.keys.push(key)
    return key
  }

  addClient(key: Credential): Client {
    const level = this.world.random.chance(0.4) ? "plain" : "control.v1"
    const client = new Client(this, this.clients.length + 1, key, level)
    if (level !== "plain" && this.world.random.chance(0.25)) client.generateOwnKey()
    if (key.ref.type === "gateway" && this.world.random.chance(0.5)) client.publicIp = `203.0.113.${client.ordinal}`
    if (this.world.random.chance(0.3)) client.urlType = undefined
    this.clients.push(client)
    return client
  }

  hashOf(apiKey: string): string {
    return this.keys.find(({ text }) => text === apiKey)?.hash ?? hashApiKey(apiKey)
  }

  isValidKey(hash: string | undefined): boolean {
    return [...this.database.tables.key.values()].some((key) => key.hash === hash)
  }

  /** Whether the client's key is valid for the client type in its URL. */
  mayConnect({ key: { hash, ref }, urlType }: Client): boolean {
    for (const key of this.database.tables.key.values()) {
      if (key.hash === hash)
        return (urlType ?? key.owner.type) === key.owner.type && formatClientRef(key.owner) === formatClientRef(ref)
    }
    return false
  }

  /** Creates a few agents, gateways and tunnels, and a client for most of the keys. */
  #setUp(): void {
    const { world } = this
    for (const node of this.nodes) node.start()
    world.advance(30)
    for (let left = world.random.between(1, 3); left > 0; left--) this.operator.createAgent()
    for (let left = world.random.between(1, 2); left > 0; left--) this.operator.createGateway()
    world.advance(30)
    for (let left = world.random.between(1, 3); left > 0; left--) this.operator.createTunnel(world.random)
    world.advance(30)
    for (const key of this.keys) this.addClient(key)
    for (let left = world.random.between(0, 1); left > 0; left--) {
      const key = world.random.pick(this.keys)
      if (key !== undefined) this.addClient(key)
    }
    for (const client of this.clients) if (world.random.chance(0.8)) client.connect()
    world.advance(world.random.between(0, 100))
  }

  #checkAfterCommand(): void {
    this.database.checkLog()
    checkDeliveryOrder(this)
    checkAuthTimeout(this)
    for (const node of this.nodes) {
      const excess = node.process.alive ? node.subscriptions.maxExcess() : 0
      if (excess > 0) this.world.violate("I10 bounded", `a connection has ${excess} batches above its limit`)
    }
  }

  /** Heals every fault. Then lets enough time pass to detect silent connections and to reconnect. */
  #heal(): void {
    const { database, nodes, world } = this
    world.trace(() => "=== healing")
    this.faultInjector.healAll()
    world.breakProbability = 0
    clearDatabaseFaults(database.faults)
    for (const node of nodes) if (!node.isStopping) node.start()
    for (const client of this.clients) {
      client.isSilent = false
      client.reconnects = true
      client.ignoresReplacement = false
      client.withholdsAuth = false
    }
    world.advance(14_000)
    for (const node of nodes) node.start()
    this.#restartStoppedClients()
    world.advance(8_000)
    if (world.violation === undefined) checkReleased(this)
    // A response in flight may have stopped one more client.
    this.#restartStoppedClients()
    // A client that has changed its own row too often may change it again after 60 s.
    if (this.clients.some(({ isRateLimited }) => isRateLimited)) world.advance(60_000)
    world.advance(26_000)
  }

  #restartStoppedClients(): void {
    // An operator restarts clients that stopped for good, if their key is valid. Only one client per identity is restarted.
    const taken = new Set(this.clients.filter(({ isReady }) => isReady).map(({ key }) => formatClientRef(key.ref)))
    for (const client of this.clients) {
      if (client.connection !== undefined || !this.mayConnect(client) || taken.has(formatClientRef(client.key.ref)))
        continue
      taken.add(formatClientRef(client.key.ref))
      client.connect()
    }
  }
}

/** Often 0 to 3 ms, so that commands overlap; sometimes longer than every timer. */
function drawPause(random: Random): number {
  const drawn = random.next()
  if (drawn < 0.25) return random.between(0, 3)
  if (drawn < 0.6) return random.between(4, 60)
  if (drawn < 0.9) return random.between(60, 1_500)
  return drawn < 0.98 ? random.between(1_500, 6_000) : random.between(6_000, 16_000)
}
