/** Commands of clients, valid and invalid, and faults of their connections. */
import { domains, gatewayCertificates } from "./certificates.ts"
import type { Client } from "./Client.ts"
import { ViewReplica } from "./ViewReplica.ts"
import type { Random } from "./Random.ts"
import type { Command, SimulationState } from "./SimulationState.ts"

const pickClient = ({ clients }: SimulationState, random: Random): Client | undefined => random.pick(clients)

const pickConnection = ({ clients }: SimulationState, random: Random) =>
  random.pick(clients.flatMap(({ connection }) => connection === undefined ? [] : [connection]))

const onRandomClient =
  (act: (client: Client, random: Random, simulation: SimulationState) => void): Command => (simulation, random) => {
    const client = pickClient(simulation, random)
    if (client !== undefined) act(client, random, simulation)
  }

// ---- clients of either level

export const connect = onRandomClient((client) => {
  client.reconnects = true
  client.connect()
})

export const disconnect = onRandomClient((client) => client.disconnect())

export const resetConnection: Command = (simulation, random) =>
  pickConnection(simulation, random)?.socket?.breakBothEnds()

export const setSilence = onRandomClient((client, random) => {
  client.isSilent = random.chance(0.7)
})

/** Connects with a wrong key, or with the key of another client, which may have been revoked. */
export const connectWithWrongKey: Command = (simulation, random) => {
  const client = random.pick(simulation.clients)
  if (client === undefined) return
  const other = random.pick(simulation.keys)
  const before = client.key
  client.key = random.chance(0.5) || other === undefined ?
    { ...before, text: "wrong", hash: simulation.hashOf("wrong") } :
    {
      ...other,
      ref: before.ref
    }
  if (client.key.text !== "wrong" && other !== undefined) client.key = other
  client.connect()
  if (client.key.text === "wrong") client.key = before
}

/** Connects without sending `auth`. */
export const connectWithoutAuth = onRandomClient((client) => {
  client.withholdsAuth = true
  client.connect()
  client.withholdsAuth = false
})

export const reportTunnelStatus: Command = (simulation, random) => {
  const tunnels = [random.pick(domains), random.pick(domains)].map((domain) => ({
    domain: domain ?? "",
    status: random.pick(["active", "error", "idle"]) ?? ""
  }))
  const connection = pickConnection(simulation, random)
  if (connection?.client.key.ref.type !== "agent") return
  if (!connection.isReady) connection.protocolErrors += 1
  connection.send({ type: "status", data: { tunnels } })
}

export const obtainCertificate: Command = (simulation, random) => {
  const connection = pickConnection(simulation, random)
  const issued = random.pick(gatewayCertificates())
  if (connection === undefined || issued === undefined) return
  const client = simulation.clients.find((each) => each.connection === connection)
  if (connection.authAt !== undefined && client?.key.ref.type === "gateway") return client.obtainCertificate(issued)
  connection.protocolErrors += 1
  connection.send({ type: "certificate_obtained", data: issued }, false)
}

// ---- clients at control.v1

const pickReadyV1 = ({ clients }: SimulationState, random: Random) =>
  random.pick(
    clients.flatMap(({ connection, level }) =>
      level === "plain" || connection?.isReady !== true || connection.client.replica.position === undefined
        ? []
        : [connection]
    )
  )

export const sendAck: Command = (simulation, random) => {
  const connection = pickReadyV1(simulation, random)
  const at = connection?.client.replica.position?.revision ?? 0
  if (random.chance(0.4))
    connection?.sendExpectingError("ack_ahead", { type: "ack", data: { revision: at + random.between(50, 90) } })
  else connection?.send({ type: "ack", data: { revision: Math.max(0, at - random.between(0, 5)) } })
}

export const sendNack: Command = (simulation, random) => {
  const connection = pickReadyV1(simulation, random)
  const { acknowledged = -1, client } = connection ?? {}
  const at = client?.replica.position?.revision ?? 0
  const data = { code: "port_in_use", message: "it cannot be done" }
  if (random.chance(0.3)) {
    connection?.sendExpectingError("nack_unknown", {
      type: "nack",
      data: { ...data, revision: at + random.between(50, 90) }
    })
  } else if (at > acknowledged && connection !== undefined) {
    // A revision can no longer be rejected once an `ack` for it was sent or the client has resumed from it.
    connection.expectedErrors.set("nack_unknown", (connection.expectedErrors.get("nack_unknown") ?? 0) + 1)
    connection.send({ type: "nack", data: { ...data, revision: at } })
    simulation.world.count("nack")
  }
}

export const requestResync: Command = (simulation, random) => {
  const connection = pickReadyV1(simulation, random)
  const count = random.pick([1, 1, 2, 4]) ?? 1
  for (let left = count; left > 0; left--) connection?.send({ type: "resync", data: {} })
  if (connection === undefined || count === 1) return
  const before = connection.errors.get("rate_limited") ?? 0
  simulation.world.after(3_000, () => {
    const isHealthy = !connection.isClosed && !connection.wasThrottled && connection.messagesSent < 20
    if (!isHealthy || connection.node?.process.pausedAt !== undefined) return
    const rejected = (connection.errors.get("rate_limited") ?? 0) - before
    if (rejected < count - 1) simulation.world.violate("limits", `${rejected} of ${count} resyncs were rejected`)
  })
}

/** Reconnects with an impossible or malformed position. */
export const resumeFromInvalidPosition = onRandomClient((client, random) => {
  const { position } = client.replica
  const revision = (position?.revision ?? 0) + 1_000
  client.overrideResume(
    random.pick<object | string>([
      { timeline: position?.timeline ?? "t1", revision },
      { timeline: "another", revision: position?.revision ?? 1 },
      { timeline: 7 },
      "nonsense",
      { timeline: position?.timeline ?? "t1", revision: -1 }
    ]) ?? ""
  )
  client.connect()
})

/** Reconnects without a view, and sometimes with a new WireGuard key pair. */
export const reconnectWithoutView = onRandomClient((client, random) => {
  client.replica = new ViewReplica(client.level)
  if (client.level !== "plain" && random.chance(0.5)) client.generateOwnKey()
  else client.ownKey = undefined
  client.connect()
})

/** Two clients with one key both reconnect although each replaces the other. */
export const competeForSession: Command = (simulation, random) => {
  const one = pickClient(simulation, random)
  const other = simulation.clients.find(({ key }) => key === one?.key && key !== undefined)
  for (const client of [one, other]) {
    if (client === undefined) continue
    client.ignoresReplacement = true
    client.reconnects = true
    if (client.connection === undefined) client.connect()
    simulation.world.after(random.between(500, 4_000), () => {
      client.ignoresReplacement = false
    })
  }
}

export const sendInvalidMessages: Command = (simulation, random) => {
  const connection = pickConnection(simulation, random)
  if (connection === undefined) return
  const count = random.chance(0.2) ? 24 : random.between(1, 3)
  for (let sent = 0; sent < count; sent++) {
    connection.protocolErrors += 1
    const frame = random.pick([
      "{",
      "[]",
      "null",
      "{\"type\":\"heartbeat\"}",
      "{\"type\":\"auth\",\"data\":{\"apiKey\":\"x\"}}",
      "{\"type\":\"hello\",\"data\":{}}",
      "{\"type\":\"__proto__\",\"data\":{}}",
      "{\"type\":\"status\",\"data\":{\"tunnels\":[{\"domain\":1}]}}"
    ]) ?? ""
    // The first `auth` of a connection is a valid message.
    if (frame.includes("apiKey") && connection.authAt === undefined) connection.auth("x")
    else connection.send(frame, false)
  }
}

export const sendBinaryFrame: Command = (simulation, random) => pickConnection(simulation, random)?.sendBinary()

export const blackholeConnection: Command = (simulation, random) => {
  const connection = pickConnection(simulation, random)
  if (connection !== undefined) simulation.faultInjector.blackhole(connection)
}

export const throttleReader: Command = (simulation, random) => {
  const connection = pickConnection(simulation, random)
  if (connection !== undefined) simulation.faultInjector.throttle(connection, random.pick([0, 0, 0.1, 0.5, 5]) ?? 0)
}

export const floodMessages: Command = (simulation, random) => {
  const connection = pickConnection(simulation, random)
  if (connection === undefined) return
  const { isReady } = connection
  for (let sent = random.between(35, 60); sent > 0; sent--) {
    connection.send({ type: "heartbeat", data: { timestamp: sent } }, isReady)
    if (!isReady) connection.protocolErrors += 1
  }
  simulation.world.after(3_000, () => {
    const isHealthy = isReady && !connection.isClosed && !connection.wasThrottled
    const process = connection.node?.process
    if (!isHealthy || process?.alive !== true || process.pausedAt !== undefined) return
    // The server reads nothing from a client while it stores that client's earlier messages.
    if (simulation.world.now - simulation.databaseFaultAt < 20_000) return
    if (!connection.errors.has("rate_limited"))
      simulation.world.violate("limits", "a flood was answered without a limit")
  })
}
