/** What operators may do, and what may befall the database and the nodes. */
import type { Database } from "./Database.ts"
import { acceptedFaults } from "./acceptedFaults.ts"
import type { Command } from "./SimulationState.ts"
import type { TunnelRow } from "./databaseTables.ts"
import { ConstraintViolated } from "./Transaction.ts"

// ---- operators

export const createTunnel: Command = ({ operator }, random) => operator.createTunnel(random)
export const updateTunnel: Command = ({ operator }, random) => operator.updateTunnel(random)
export const removeTunnel: Command = ({ operator }, random) => operator.removeTunnel(random)
export const renameAgent: Command = ({ operator }, random) => operator.renameAgent(random)
export const updateGateway: Command = ({ operator }, random) => operator.updateGateway(random)
export const revokeKey: Command = ({ operator }, random) => operator.revokeKey(random)
export const putCertificate: Command = ({ operator }, random) => operator.putCertificate(random)
export const removeCertificate: Command = ({ operator }, random) => operator.removeCertificate(random)
export const changeBySql: Command = ({ operator }, random) => operator.changeBySql(random)

export const removeClient: Command = ({ keys, operator }, random) => {
  const ref = random.pick(keys)?.ref
  if (ref !== undefined) operator.removeClient(ref, random.chance(0.7))
}

export const createKey: Command = ({ keys, operator }, random) => {
  const ref = random.pick(keys)?.ref
  if (ref !== undefined) operator.createKey(ref)
}

export const addClient: Command = (simulation, random) => {
  if (simulation.clients.length >= 7) return
  const strangers = simulation.keys.filter((key) => !simulation.clients.some((client) => client.key === key))
  const key = random.pick(strangers)
  if (key === undefined) {
    if (random.chance(0.6)) simulation.operator.createAgent()
    else simulation.operator.createGateway()
  } else simulation.addClient(key).connect()
}

/** Many small changes, faster than a slow client takes them. */
export const changeRapidly: Command = (simulation, random) => {
  for (let left = random.between(10, 40); left > 0; left--) {
    simulation.world.after(left * random.between(5, 25), () => simulation.operator.changeBySql(random))
  }
}

/** One client does not read, and what concerns it changes faster than what waits for it may grow. */
export const overloadSlowClient: Command = (simulation, random) => {
  const { faultInjector: faultInjector, clients, database, world } = simulation
  const connection = random.pick(
    clients.flatMap(({ connection }) => connection?.isReady === true ? [connection] : [])
  )
  if (connection === undefined) return
  faultInjector.throttle(connection, random.pick([0, 0, 0.02]) ?? 0)
  const { ref } = connection.client.key
  const count = random.between(20, 90)
  for (let number = 0; number < count; number++) {
    world.after(number * 9, () => {
      const tunnel = [...database.tables.tunnel.values()].find(({ agentId }) =>
        ref.type === "gateway" || agentId === ref.id
      )
      if (tunnel === undefined || database.faults.mode !== "up") return
      // One that comes early is another row's, and must not be lost with the oldest that wait.
      if (number === 8) putTunnel(database, { ...tunnel, id: "early", domain: "early.example.com" })
      database.transact((tx) => tx.put("tunnel", { ...tunnel, target: `${"long-".repeat(40)}${number}` }))
    })
  }
  world.after(random.between(300, 14_000), () => connection.socket?.setRate(Number.POSITIVE_INFINITY))
}

/** A client is away while one of its tunnels leaves it and goes on changing, and while something else of its view changes. */
export const changeWhileDisconnected: Command = (simulation, random) => {
  const { clients, database, world } = simulation
  const client = random.pick(
    clients.filter(({ isReady, key: { ref }, level }) =>
      isReady && ref.type === "agent" && level !== "plain" &&
      [...database.tables.tunnel.values()].some(({ agentId }) => agentId === ref.id)
    )
  )
  if (client === undefined || database.faults.mode !== "up") return
  client.connection?.socket?.breakBothEnds()
  world.after(10, () => {
    const { agent, gateway, tunnel } = database.tables
    const mine = [...tunnel.values()].find(({ agentId }) => agentId === client.key.ref.id)
    const other = [...agent.keys()].find((id) => id !== client.key.ref.id)
    const [peer] = gateway.values()
    if (mine === undefined || other === undefined || peer === undefined || database.faults.mode !== "up") return
    const moved = { ...mine, agentId: other }
    world.count("missed much")
    // It may be cut off again while it hears what it missed.
    world.breakProbability = 0.5
    world.after(2_000, () => {
      world.breakProbability = 0
    })
    putTunnel(database, moved)
    database.transact((tx) => tx.put("gateway", { ...peer, name: `missed ${random.between(1, 9)}` }))
    putTunnel(database, { ...moved, target: `localhost:${random.between(7_000, 7_009)}` })
  })
}

function putTunnel(database: Database, row: TunnelRow): void {
  try {
    database.transact((tx) => tx.put("tunnel", row))
  } catch (error) {
    if (!(error instanceof ConstraintViolated)) throw error
  }
}

// ---- the database, and the way to it

export const failRequestsAtRandom: Command = ({ faultInjector: faultInjector, database, world }, random) => {
  const { faults } = database
  faults.refuseProbability = random.pick([0, 0.1, 0.3]) ?? 0
  faults.loseAnswerProbability = random.pick([0, 0.1, 0.3]) ?? 0
  faults.hangProbability = random.pick([0, 0.05]) ?? 0
  faults.maxLatency = random.pick([3, 50, 800]) ?? 3
  faultInjector.databaseFaultBegins()
  world.after(random.between(200, 6_000), () => {
    Object.assign(faults, { refuse: 0, loseAnswer: 0, hang: 0, slowest: 3 })
    faultInjector.databaseFaultEnds()
  })
}

export const stopDatabase: Command = ({ faultInjector: faultInjector, database, world }, random) => {
  if (random.chance(0.7)) database.goDown()
  else database.faults.mode = "hung"
  world.count(`database ${database.faults.mode}`)
  faultInjector.databaseFaultBegins()
  world.after(random.between(50, 9_000), () => {
    database.faults.mode = "up"
    faultInjector.databaseFaultEnds()
  })
}

export const loseNotifications: Command = ({ database }, random) => {
  database.faults.notificationsToLose = random.between(1, 5)
}

export const killListenConnections: Command = ({ database }, random) => database.killListeners(random.chance(0.5))

export const restoreOlderBackup: Command = ({ faultInjector: faultInjector, database, node, world }, random) => {
  world.count("history rewound")
  database.goDown()
  faultInjector.databaseFaultBegins()
  const isNamed = random.chance(0.5) || acceptedFaults.unnoticedRestore && node === undefined
  database.restore(Math.max(0, database.revision - random.between(1, 8)), isNamed)
  // What comes back may be slow to answer everything.
  database.faults.refuseProbability = random.pick([0, 0.3]) ?? 0
  world.after(random.between(5, 1_500), () => {
    database.faults.mode = "up"
    world.after(3_000, () => {
      database.faults.refuseProbability = 0
      faultInjector.databaseFaultEnds()
    })
  })
}

export const compactChangeLog: Command = ({ database }, random) =>
  database.compact(database.revision - random.between(0, 10))

// ---- nodes

export const killNode: Command = ({ nodes }, random) => random.pick(nodes)?.kill()

export const restartNode: Command = ({ nodes, world }, random) => {
  const node = random.pick(nodes)
  node?.stop()
  world.after(random.between(100, 4_000), () => node?.start())
}

export const pauseNode: Command = ({ nodes, world }, random) => {
  world.count("node stalled")
  random.pick(nodes)?.process.pause(random.pick([50, 1_500, 14_000]) ?? 50, random.pick([0, 0, 1_000, 3_000]) ?? 0)
}

/** The wall clock is set; nothing but what people read goes by it. */
export const setWallClock: Command = ({ nodes }, random) => {
  for (const { process } of nodes) process.wallClockOffset = random.between(-3, 3) * 3_600_000
}

export const letTimePass: Command = ({ world }, random) => world.advance(random.between(100, 3_000))
