/** What clients may do, rightly and wrongly, and what may befall their connections. */
import { certificates, domains } from "./certificates.ts"
import type { Client } from "./Client.ts"
import { Follower } from "./ViewReplica.ts"
import type { Random } from "./Random.ts"
import type { Command, SimulationState } from "./SimulationState.ts"

const aClient = ({ clients }: SimulationState, random: Random): Client | undefined => random.pick(clients)

const aConversation = ({ clients }: SimulationState, random: Random) =>
  random.pick(clients.flatMap(({ conversation }) => conversation === undefined ? [] : [conversation]))

const asClient =
  (act: (client: Client, random: Random, simulation: SimulationState) => void): Command => (simulation, random) => {
    const client = aClient(simulation, random)
    if (client !== undefined) act(client, random, simulation)
  }

// ---- clients

export const connect = asClient((client) => {
  client.isPersistent = true
  client.connect()
})

export const leave = asClient((client) => client.leave())

export const cut: Command = (simulation, random) => aConversation(simulation, random)?.wire?.cut()

export const mute = asClient((client, random) => {
  client.isMute = random.chance(0.7)
})

/** A key that is wrong, of somebody else, or not live any more. */
export const badAuth: Command = (simulation, random) => {
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

/** It connects and does not say who it is. */
export const hesitate = asClient((client) => {
  client.hesitates = true
  client.connect()
  client.hesitates = false
})

export const status: Command = (simulation, random) => {
  const tunnels = [random.pick(domains), random.pick(domains)].map((domain) => ({
    domain: domain ?? "",
    status: random.pick(["active", "error", "idle"]) ?? ""
  }))
  const conversation = aConversation(simulation, random)
  if (conversation?.client.key.ref.type !== "agent") return
  if (!conversation.isReady) conversation.faults += 1
  conversation.say({ type: "status", data: { tunnels } })
}

export const certificate: Command = (simulation, random) => {
  const conversation = aConversation(simulation, random)
  const issued = random.pick(certificates())
  if (conversation === undefined || issued === undefined) return
  const client = simulation.clients.find((each) => each.conversation === conversation)
  if (conversation.authAt !== undefined && client?.key.ref.type === "gateway") return client.obtained(issued)
  conversation.faults += 1
  conversation.say({ type: "certificate_obtained", data: issued }, false)
}

// ---- clients at control.v1

const aSpeaker = ({ clients }: SimulationState, random: Random) =>
  random.pick(
    clients.flatMap(({ conversation, level }) =>
      level === "plain" || conversation?.isReady !== true || conversation.client.follower.position === undefined
        ? []
        : [conversation]
    )
  )

export const ack: Command = (simulation, random) => {
  const conversation = aSpeaker(simulation, random)
  const at = conversation?.client.follower.position?.revision ?? 0
  if (random.chance(0.4))
    conversation?.provoke("ack_ahead", { type: "ack", data: { revision: at + random.between(50, 90) } })
  else conversation?.say({ type: "ack", data: { revision: Math.max(0, at - random.between(0, 5)) } })
}

export const nack: Command = (simulation, random) => {
  const conversation = aSpeaker(simulation, random)
  const { acked = -1, client } = conversation ?? {}
  const at = client?.follower.position?.revision ?? 0
  const data = { code: "port_in_use", message: "it cannot be done" }
  if (random.chance(0.3)) {
    conversation?.provoke("nack_unknown", { type: "nack", data: { ...data, revision: at + random.between(50, 90) } })
  } else if (at > acked && conversation !== undefined) {
    // What was acknowledged before the answer is sent, or was resumed from, cannot be refused any more.
    conversation.provoked.set("nack_unknown", (conversation.provoked.get("nack_unknown") ?? 0) + 1)
    conversation.say({ type: "nack", data: { ...data, revision: at } })
    simulation.world.count("nack")
  }
}

export const resync: Command = (simulation, random) => {
  const conversation = aSpeaker(simulation, random)
  const count = random.pick([1, 1, 2, 4]) ?? 1
  for (let left = count; left > 0; left--) conversation?.say({ type: "resync", data: {} })
  if (conversation === undefined || count === 1) return
  const before = conversation.errors.get("rate_limited") ?? 0
  simulation.world.after(3_000, () => {
    const isWell = !conversation.isOver && !conversation.wasSlow && conversation.said < 20
    if (!isWell || conversation.node?.process.stalledAt !== undefined) return
    const refused = (conversation.errors.get("rate_limited") ?? 0) - before
    if (refused < count - 1) simulation.world.violate("limits", `${refused} of ${count} resyncs were refused`)
  })
}

/** It comes back, and says of where it was what cannot be. */
export const oddResume = asClient((client, random) => {
  const { position } = client.follower
  const revision = (position?.revision ?? 0) + 1_000
  client.willResume(
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

/** It comes back without what it knew, or with another key pair. */
export const forget = asClient((client, random) => {
  client.follower = new Follower(client.level)
  if (client.level !== "plain" && random.chance(0.5)) client.makeOwnKey()
  else client.ownKey = undefined
  client.connect()
})

/** Two with one key, who both come back whatever they are told. */
export const fight: Command = (simulation, random) => {
  const one = aClient(simulation, random)
  const other = simulation.clients.find(({ key }) => key === one?.key && key !== undefined)
  for (const client of [one, other]) {
    if (client === undefined) continue
    client.fights = true
    client.isPersistent = true
    if (client.conversation === undefined) client.connect()
    simulation.world.after(random.between(500, 4_000), () => {
      client.fights = false
    })
  }
}

export const garbage: Command = (simulation, random) => {
  const conversation = aConversation(simulation, random)
  if (conversation === undefined) return
  const count = random.chance(0.2) ? 24 : random.between(1, 3)
  for (let said = 0; said < count; said++) {
    conversation.faults += 1
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
    // The first auth of a connection is one.
    if (frame.includes("apiKey") && conversation.authAt === undefined) conversation.auth("x")
    else conversation.say(frame, false)
  }
}

export const binary: Command = (simulation, random) => aConversation(simulation, random)?.sayBinary()

export const blackhole: Command = (simulation, random) => {
  const conversation = aConversation(simulation, random)
  if (conversation !== undefined) simulation.chaos.blackhole(conversation)
}

export const slow: Command = (simulation, random) => {
  const conversation = aConversation(simulation, random)
  if (conversation !== undefined) simulation.chaos.slow(conversation, random.pick([0, 0, 0.1, 0.5, 5]) ?? 0)
}

export const flood: Command = (simulation, random) => {
  const conversation = aConversation(simulation, random)
  if (conversation === undefined) return
  const { isReady } = conversation
  for (let said = random.between(35, 60); said > 0; said--) {
    conversation.say({ type: "heartbeat", data: { timestamp: said } }, isReady)
    if (!isReady) conversation.faults += 1
  }
  simulation.world.after(3_000, () => {
    const isWell = isReady && !conversation.isOver && !conversation.wasSlow
    const process = conversation.node?.process
    if (!isWell || process?.alive !== true || process.stalledAt !== undefined) return
    // Nothing is read from a client while what it said before is on its way to the database.
    if (simulation.world.now - simulation.troubleAt < 20_000) return
    if (!conversation.errors.has("rate_limited")) simulation.world.violate("limits", "a flood was answered without end")
  })
}
