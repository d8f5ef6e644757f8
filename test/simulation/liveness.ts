/** Liveness checks: the state that clients and database must reach after every fault is healed. */
import { Network } from "#feed/Network.ts"
import { NodeLease } from "#cluster/NodeLease.ts"
import { formatClientRef } from "#schema/ids.ts"
import { Duration, Effect } from "effect"
import type { Client } from "./Client.ts"
import { settings } from "./Node.ts"
import type { SimulationState } from "./SimulationState.ts"
import { describeDifference, expectedView, isSameView } from "./expectedViews.ts"

export const checkHealed = (simulation: SimulationState): void => {
  const { clients, nodes, world } = simulation
  for (const client of clients) {
    checkConnected(simulation, client)
    if (client.isReady) checkConverged(simulation, client)
  }
  checkPresence(simulation)
  for (const node of nodes) {
    const registered = node.registeredClients.length
    const ready = clients.filter(({ connection }) => connection?.isReady === true && connection.node === node)
    if (registered !== ready.length) {
      world.violate("L4 no leak", `the registry has ${registered} clients, ${ready.length} are connected`)
    }
    if (node.subscriptions.size !== ready.length) {
      world.violate("L4 no leak", `${node.subscriptions.size} subscriptions are open for ${ready.length} clients`)
    }
  }
  if (world.violation === undefined) checkSingleChange(simulation)
  if (world.violation === undefined) checkReleaseAfterOutage(simulation)
  if (world.violation === undefined) checkStop(simulation)
}

/** I5: acknowledged <= last message <= sent <= newest revision that the node has read. */
export const checkDeliveryOrder = ({ database, nodes, world }: SimulationState): void => {
  // A node notices a restore some time before it informs its clients.
  const wasRestored = database.restoredAt > 0
  for (const node of nodes) {
    const known = node.peek(Effect.flatMap(Network, ({ state }) => state))?.revision ?? 0
    for (const { delivery, ref } of node.registeredClients) {
      const { acknowledged = 0, lastMessageRevision: last, rejected, sent } = delivery
      if (rejected !== undefined) world.count("nack stands")
      if (acknowledged > last || last > sent || sent > known && !wasRestored && last > 0 && node.process.alive) {
        const order = `acknowledged ${acknowledged}, last message ${last}, sent ${sent}, node ${known}`
        world.violate("I5 ack order", `${formatClientRef(ref)}: ${order}`)
      }
    }
  }
}

/** Every client that does not authenticate within the timeout is disconnected. */
export const checkAuthTimeout = ({ clients, world }: SimulationState): void => {
  const maxMillis = Duration.toMillis(settings.authTimeout) + 3_000
  for (const { connection, name } of clients) {
    const { node, socket } = connection ?? {}
    if (connection?.authAt !== undefined || node?.process.alive !== true || socket?.isEnded !== false) continue
    if (node.process.pausedAt !== undefined && world.now - node.process.pausedAt < 30_000) continue
    if (world.now - socket.openedAt > maxMillis)
      world.violate("limits", `${name} has not authenticated and is still connected`)
  }
}

/** L2: an ended session of a live node is shown offline as soon as its release is written. */
export const checkReleased = ({ database, nodes, world }: SimulationState): void => {
  // A restored database shows older sessions as online until the sweep removes them.
  if (world.now - database.restoredAt < 60_000) return
  for (const node of nodes) {
    if (world.now - (node.process.pausedAt ?? Number.NEGATIVE_INFINITY) < 40_000) continue
    const name = node.peek(Effect.map(NodeLease, ({ id }) => id))
    const sessions = new Set(node.registeredClients.map(({ session }) => String(session)))
    for (const [client, { node: holder, session, since, status }] of database.presence) {
      // No node knows this session, because the response to its claim was lost. The sweep removes it.
      if (database.commitsWithoutAnswer.has(since)) continue
      if (holder === name && node.isServing && status === "online" && session !== null && !sessions.has(session)) {
        world.violate("L2 presence", `${client} is shown online although its session has ended`)
      }
    }
  }
}

/** L3: every client with a valid key is connected, and no client with a revoked key is. */
function checkConnected(simulation: SimulationState, client: Client): void {
  const { world } = simulation
  const mayConnect = simulation.mayConnect(client)
  const isSecond = simulation.clients.some((other) =>
    other !== client && other.isReady && formatClientRef(other.key.ref) === formatClientRef(client.key.ref)
  )
  if (client.isReady && !simulation.isValidKey(client.connection?.authHash))
    world.violate("L3 reconnect", `${client.name} is connected with a revoked key`)
  if (!client.isReady && mayConnect && !isSecond) {
    world.violate("L3 reconnect", `${client.name} is not connected; final close code ${client.finalCloseCode}`)
  }
}

/** L1: a connected client's view equals the expected view, and its acknowledgement is stored. */
function checkConverged(
  { database, world }: SimulationState,
  { connection, replica, key, level, name }: Client
): void {
  const truth = expectedView(database.tables, key.ref, level)
  if (truth === undefined || replica.view === undefined || !isSameView(replica.view, truth)) {
    world.violate("L1 convergence", `${name}: ${describeDifference(replica.view, truth)}`)
  }
  if (level === "plain") return
  const registered = connection?.node?.registeredClients.find(({ peer }) => peer === connection.socket)
  const at = replica.position?.revision
  if (registered?.delivery.acknowledged !== at || registered?.delivery.rejected !== undefined) {
    world.violate("L1 convergence", `${name} has applied ${at}, the server has ${registered?.delivery.acknowledged}`)
  }
  const row = database.presenceOf(key.ref)
  if (row?.applied !== at || row?.nack !== null) {
    world.violate("L2 presence", `${name} has applied ${at}, the database shows ${row?.applied}`)
  }
}

/** L2: the database shows a client online exactly when one client is connected with its identity. */
function checkPresence({ clients, database, world }: SimulationState): void {
  for (const type of ["agent", "gateway"] as const) {
    for (const id of database.tables[type].keys()) {
      const name = `${type}:${id}`
      const online = database.presence.get(name)?.status === "online"
      const connected = clients.filter((client) => client.isReady && formatClientRef(client.key.ref) === name).length
      if (connected > 1) world.violate("L2 presence", `${connected} clients are connected as ${name}`)
      if (online !== (connected === 1)) {
        world.violate("L2 presence", `${name} is shown ${online ? "online" : "offline"}, ${connected} are connected`)
      }
    }
  }
}

/** L1: a single change sends exactly one message to each client whose view it changes, and none to others. */
function checkSingleChange({ clients, database, world }: SimulationState): void {
  const [tunnel] = database.tables.tunnel.values()
  if (tunnel === undefined) return
  const before = clients.map(({ connection }) => connection?.updates ?? 0)
  database.transact((tx) => tx.put("tunnel", { ...tunnel, target: "lone.example:1" }))
  world.advance(60)
  for (const [index, client] of clients.entries()) {
    const { connection, key: { ref }, name } = client
    if (connection?.isReady !== true) continue
    const received = connection.updates - (before[index] ?? 0)
    const expected = expectedView(database.tables, ref, client.level)?.tunnels.has(tunnel.id) === true ? 1 : 0
    if (received !== expected)
      world.violate("L1 convergence", `${name} received ${received} messages for a single change`)
  }
}

/** L2: a client that disconnects during a database outage is shown offline soon after the outage. */
function checkReleaseAfterOutage({ clients, database, world }: SimulationState): void {
  const client = clients.find(({ isReady }) => isReady)
  if (client === undefined) return
  database.goDown()
  client.disconnect()
  world.advance(700)
  database.faults.mode = "up"
  world.advance(4_000)
  if (database.presenceOf(client.key.ref)?.status === "online") {
    world.violate("L2 presence", `${client.name} has disconnected and is shown online`)
  }
}

/** L4: a stopped node releases everything and marks its clients offline. */
function checkStop(simulation: SimulationState): void {
  const { clients, database, nodes, world } = simulation
  for (const client of clients) client.reconnects = false
  for (const node of nodes) node.stop()
  world.advance(4_000)
  if (nodes.some(({ process }) => process.alive)) world.violate("L4 no leak", "a node did not stop")
  for (const [name, { status }] of database.presence) {
    if (status === "online") world.violate("L2 presence", `${name} is shown online after the drain`)
  }
}
