/** What must be right once everything has been mended and some time has passed. */
import { Network } from "#feed/Network.ts"
import { NodeLease } from "#cluster/NodeLease.ts"
import { nameOf } from "#schema/ids.ts"
import { Duration, Effect } from "effect"
import type { Client } from "./Client.ts"
import { settings } from "./Node.ts"
import type { SimulationState } from "./SimulationState.ts"
import { difference, isSameView, project } from "./expectedViews.ts"

export const checkHealed = (simulation: SimulationState): void => {
  const { clients, nodes, world } = simulation
  for (const client of clients) {
    checkConnected(simulation, client)
    if (client.isReady) checkConverged(simulation, client)
  }
  checkPresence(simulation)
  for (const node of nodes) {
    const { members } = node
    const ready = clients.filter(({ conversation }) => conversation?.isReady === true && conversation.node === node)
    if (members.length !== ready.length) {
      world.violate("L4 no leak", `the registry has ${members.length} members, ${ready.length} clients are connected`)
    }
    if (node.queues.size !== ready.length) {
      world.violate("L4 no leak", `${node.queues.size} subscriptions are open for ${ready.length} clients`)
    }
  }
  if (world.violation === undefined) checkLoneChange(simulation)
  if (world.violation === undefined) checkLateRelease(simulation)
  if (world.violation === undefined) checkStop(simulation)
}

/** I5: what was acknowledged was told, what was told was sent, and nothing was sent that the node does not know. */
export const checkProgress = ({ database, nodes, world }: SimulationState): void => {
  // A history that was set back is heard of some time before the clients are told of it.
  const wasSetBack = database.rewoundAt > 0
  for (const node of nodes) {
    const heard = node.peek(Effect.flatMap(Network, ({ state }) => state))?.revision ?? 0
    for (const { applied = 0, nack, ref, sent, told } of node.members) {
      if (nack !== undefined) world.count("nack stands")
      if (applied > told || told > sent || sent > heard && !wasSetBack && told > 0 && node.process.alive) {
        world.violate("I5 ack order", `${nameOf(ref)}: applied ${applied}, told ${told}, sent ${sent}, heard ${heard}`)
      }
    }
  }
}

/** Nobody may stay for long without saying who it is. */
export const checkWaiting = ({ clients, world }: SimulationState): void => {
  const longest = Duration.toMillis(settings.authTimeout) + 3_000
  for (const { conversation, name } of clients) {
    const { node, wire } = conversation ?? {}
    if (conversation?.authAt !== undefined || node?.process.alive !== true || wire?.isEnded !== false) continue
    if (node.process.stalledAt !== undefined && world.now - node.process.stalledAt < 30_000) continue
    if (world.now - wire.openedAt > longest) world.violate("limits", `${name} has not authenticated and is still there`)
  }
}

/** L2: a session that has ended on a node that lives is not shown online any longer than its release takes. */
export const checkReleased = ({ database, nodes, world }: SimulationState): void => {
  // A history that was set back shows sessions of before; they are swept away in time.
  if (world.now - database.rewoundAt < 60_000) return
  for (const node of nodes) {
    if (world.now - (node.process.stalledAt ?? Number.NEGATIVE_INFINITY) < 40_000) continue
    const name = node.peek(Effect.map(NodeLease, ({ id }) => id))
    const sessions = new Set(node.members.map(({ session }) => String(session)))
    for (const [client, { node: holder, session, since, status }] of database.presence) {
      // Nobody knows of this session; it is swept away in time.
      if (database.unanswered.has(since)) continue
      if (holder === name && node.isServing && status === "online" && session !== null && !sessions.has(session)) {
        world.violate("L2 presence", `${client} is shown online, and its session has ended`)
      }
    }
  }
}

/** L3: who may be connected is, and who may not is not. */
function checkConnected(simulation: SimulationState, client: Client): void {
  const { world } = simulation
  const mayConnect = simulation.mayConnect(client)
  const isSecond = simulation.clients.some((other) =>
    other !== client && other.isReady && nameOf(other.key.ref) === nameOf(client.key.ref)
  )
  if (client.isReady && !simulation.isLive(client.conversation?.authHash))
    world.violate("L3 reconnect", `${client.name} is connected with a dead key`)
  if (!client.isReady && mayConnect && !isSecond) {
    world.violate("L3 reconnect", `${client.name} is not connected, stopped by ${client.stoppedBy}`)
  }
}

/** L1: a connected client's view is what the rows say. */
function checkConverged(
  { database, world }: SimulationState,
  { conversation, follower, key, level, name }: Client
): void {
  const truth = project(database.tables, key.ref, level)
  if (truth === undefined || follower.view === undefined || !isSameView(follower.view, truth)) {
    world.violate("L1 convergence", `${name}: ${difference(follower.view, truth)}`)
  }
  if (level === "plain") return
  const member = conversation?.node?.members.find(({ peer }) => peer === conversation.wire)
  const at = follower.position?.revision
  if (member?.applied !== at || member?.nack !== undefined) {
    world.violate("L1 convergence", `${name} has applied ${at}, the server knows of ${member?.applied}`)
  }
  const row = database.presenceOf(key.ref)
  if (row?.applied !== at || row?.nack !== null) {
    world.violate("L2 presence", `${name} has applied ${at}, the database shows ${row?.applied}`)
  }
}

/** L2: the database shows as online exactly who is. */
function checkPresence({ clients, database, world }: SimulationState): void {
  for (const type of ["agent", "gateway"] as const) {
    for (const id of database.tables[type].keys()) {
      const name = `${type}:${id}`
      const online = database.presence.get(name)?.status === "online"
      const connected = clients.filter((client) => client.isReady && nameOf(client.key.ref) === name).length
      if (connected > 1) world.violate("L2 presence", `${connected} clients are connected as ${name}`)
      if (online !== (connected === 1)) {
        world.violate("L2 presence", `${name} is shown ${online ? "online" : "offline"}, ${connected} are connected`)
      }
    }
  }
}

/** A change that stands alone makes exactly one message to each client that it concerns, and none to others. */
function checkLoneChange({ clients, database, world }: SimulationState): void {
  const [tunnel] = database.tables.tunnel.values()
  if (tunnel === undefined) return
  const before = clients.map(({ conversation }) => conversation?.pushes ?? 0)
  database.transact((tx) => tx.put("tunnel", { ...tunnel, target: "lone.example:1" }))
  world.advance(60)
  for (const [index, client] of clients.entries()) {
    const { conversation, key: { ref }, name } = client
    if (conversation?.isReady !== true) continue
    const told = conversation.pushes - (before[index] ?? 0)
    const concerned = project(database.tables, ref, client.level)?.tunnels.has(tunnel.id) === true ? 1 : 0
    if (told !== concerned) world.violate("L1 convergence", `${name} was told a lone change in ${told} messages`)
  }
}

/** L2: who leaves while the database is away is shown offline soon after it is back. */
function checkLateRelease({ clients, database, world }: SimulationState): void {
  const client = clients.find(({ isReady }) => isReady)
  if (client === undefined) return
  database.goDown()
  client.leave()
  world.advance(700)
  database.faults.mode = "up"
  world.advance(4_000)
  if (database.presenceOf(client.key.ref)?.status === "online") {
    world.violate("L2 presence", `${client.name} has left, and is shown online`)
  }
}

/** L4 and drain: a node that is stopped lets go of everything, and says so in the database. */
function checkStop(simulation: SimulationState): void {
  const { clients, database, nodes, world } = simulation
  for (const client of clients) client.isPersistent = false
  for (const node of nodes) node.stop()
  world.advance(4_000)
  if (nodes.some(({ process }) => process.alive)) world.violate("L4 no leak", "a node does not stop")
  for (const [name, { status }] of database.presence) {
    if (status === "online") world.violate("L2 presence", `${name} is shown online after the drain`)
  }
}
