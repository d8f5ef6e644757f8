/** Commands of operators, alone and together with slow or disconnected clients. */
import type { Database } from "./SimulatedDatabase.ts"
import type { TunnelRow } from "./databaseTables.ts"
import type { Command } from "./SimulationState.ts"
import { ConstraintViolated } from "./Transaction.ts"

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

/** Many small changes, faster than a slow client reads them. */
export const changeRapidly: Command = (simulation, random) => {
  for (let left = random.between(10, 40); left > 0; left--) {
    simulation.world.after(left * random.between(5, 25), () => simulation.operator.changeBySql(random))
  }
}

/** One client stops reading while its view changes faster than its backlog may grow. */
export const overloadSlowClient: Command = (simulation, random) => {
  const { faultInjector, clients, database, world } = simulation
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
      // The early change concerns another row, so it must survive when the oldest updates are dropped.
      if (number === 8) putTunnel(database, { ...tunnel, id: "early", domain: "early.example.com" })
      database.transact((tx) => tx.put("tunnel", { ...tunnel, target: `${"long-".repeat(40)}${number}` }))
    })
  }
  world.after(random.between(300, 14_000), () => connection.socket?.setRate(Number.POSITIVE_INFINITY))
}

/**
 * One of a disconnected client's tunnels moves to another agent and changes again, and a gateway in its view changes as
 * well.
 */
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
    const own = [...tunnel.values()].find(({ agentId }) => agentId === client.key.ref.id)
    const other = [...agent.keys()].find((id) => id !== client.key.ref.id)
    const [peer] = gateway.values()
    if (own === undefined || other === undefined || peer === undefined || database.faults.mode !== "up") return
    const moved = { ...own, agentId: other }
    world.count("view changed while disconnected")
    // The connection may also break during the replay.
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
