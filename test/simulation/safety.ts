/** Whether what a client was told is right, judged from the rows. */
import type { CloseReason } from "#schema/codes.ts"
import { nameOf } from "#schema/ids.ts"
import { Duration } from "effect"
import type { ConversationState } from "./ClientConnectionState.ts"
import type { Snapshot } from "./Database.ts"
import type { Message } from "./ViewReplica.ts"
import { settings } from "./Node.ts"
import { difference, isSameView, project } from "./expectedViews.ts"

const beforeAuth: ReadonlySet<string> = new Set(["auth_error", "error"])

/** Errors that only come when they are asked for. */
const answers: ReadonlySet<string> = new Set(["ack_ahead", "nack_unknown"])

/** Judges one message by itself. */
export const checkMessage = (conversation: ConversationState, message: Message, text: string): void => {
  const { client } = conversation
  const { database: { secrets }, world } = client.simulation
  const { data, type } = message
  const me = nameOf(client.key.ref)
  for (const [secret, owner] of secrets) {
    const isMine = owner === me || owner.startsWith("certificate:") && mayKnow(conversation, owner.slice(12))
    if (!isMine && text.includes(secret)) {
      world.violate("I4 least privilege", `${client.name} was told a secret of ${owner} in ${type}`)
    }
  }
  if (type === "auth_success") return checkSuccess(conversation, message)
  if (!conversation.isReady && !beforeAuth.has(type)) {
    world.violate("I1 no data before auth", `${client.name} was told ${type} before auth_success`)
  }
  if (conversation.isReady && !conversation.hasBegun && type !== "config") {
    world.violate("order", `${client.name} was told ${type} between auth_success and config`)
  }
  if (type === "error") checkError(conversation, String(data["code"]))
  if (type === "heartbeat_ack" && client.follower.position?.revision !== data["revision"]) {
    const at = client.follower.position?.revision
    world.violate(
      "I2 monotone",
      `${client.name} is at ${at}, and was told ${String(data["revision"])} by heartbeat_ack`
    )
  }
  if (type === "certificate_accepted") checkReceipt(conversation, String(data["domain"]))
}

/** A certificate's key is for the gateways in whose view its domain is, or was at what its node knew when it told of it. */
function mayKnow({ client }: ConversationState, domain: string): boolean {
  const { key: { ref }, level, simulation: { database } } = client
  if (ref.type !== "gateway") return false
  const states = database.history.slice(client.historyIndex)
  return states.some(({ tables }) => project(tables, ref, level)?.certificates.has(domain) === true)
}

function checkSuccess(conversation: ConversationState, { data }: Message): void {
  const { authHash, authIndex, client } = conversation
  const { database, world } = client.simulation
  if (conversation.isReady) world.violate("order", `${client.name} was told auth_success twice`)
  const id = data["agentId"] ?? data["gatewayId"]
  if (conversation.authAt === undefined) world.violate("I1 no data before auth", `${client.name} got in without auth`)
  // A node knows keys by its feed: what it has not heard of yet it cannot refuse, so the key must live at what it knew or later.
  const since = Math.min(authIndex, conversation.knownIndex)
  const owner = keyOwner(database.history.slice(since), authHash)
  if (owner === undefined || owner.id !== id) {
    world.violate(
      "I1 no data before auth",
      `${client.name} got in as ${String(id)} with a key that opens nothing of it`
    )
  }
}

function checkError({ client, provoked }: ConversationState, code: string): void {
  if (!answers.has(code)) return
  const due = provoked.get(code) ?? 0
  if (due === 0) client.simulation.world.violate("I5 ack order", `${client.name} was told ${code} for no reason`)
  provoked.set(code, due - 1)
  client.simulation.world.count(`error ${code}`)
}

/** I13: what is said to be stored is, or was until somebody deleted it or stored another. */
function checkReceipt({ client, obtained }: ConversationState, domain: string): void {
  const { database, world } = client.simulation
  const since = obtained.get(domain)
  if (since === undefined || !database.history.slice(since).some(({ tables }) => tables.certificate.has(domain))) {
    world.violate("I13 durable receipt", `${client.name} was told that a certificate is stored for ${domain}`)
  }
}

function keyOwner(states: ReadonlyArray<Snapshot>, hash: string) {
  for (const { tables } of states) {
    for (const key of tables.key.values()) if (key.hash === hash) return key.owner
  }
  return undefined
}

/** I3: the view is the one of some committed revision, and never an older one than before; `from` is the first that will do. */
export const checkView = (conversation: ConversationState, from: number): void =>
  match(conversation, from, () => true, "of no revision")

/** I3 at `control.v1`: the view is the one of the very revision that its last message named. */
export const checkPosition = (conversation: ConversationState): void => {
  const { position } = conversation.client.follower
  match(
    conversation,
    0,
    ({ revision, timeline }) => revision === position?.revision && timeline === position.timeline,
    `that is not the one of ${position?.timeline} ${position?.revision}`
  )
}

function match(
  { client }: ConversationState,
  from: number,
  mayBe: (state: Snapshot) => boolean,
  fault: string
): void {
  const { database, world } = client.simulation
  const { history } = database
  const { view } = client.follower
  if (view === undefined) return
  let nearest: Snapshot | undefined = history.at(-1)
  for (let index = Math.max(client.historyIndex, from); index < history.length; index++) {
    const state = history[index]
    if (state === undefined || !mayBe(state)) continue
    nearest = state
    const truth = project(state.tables, client.key.ref, client.level)
    if (truth !== undefined && isSameView(view, truth)) {
      client.historyIndex = index
      return
    }
  }
  const truth = nearest === undefined ? undefined : project(nearest.tables, client.key.ref, client.level)
  world.violate(
    "I3 no invention",
    `${client.name} has a view ${fault}, from #${client.historyIndex} on: ${difference(view, truth)}`
  )
}

const reasonOf: ReadonlyMap<number, CloseReason> = new Map([
  [1011, "defect"],
  [1012, "restarting"],
  [1013, "tryLater"],
  [4400, "protocolViolation"],
  [4401, "unauthenticated"],
  [4403, "revoked"],
  [4408, "silent"],
  [4409, "replaced"],
  [4410, "deleted"],
  [4429, "tooMany"],
  [4441, "tooSlow"]
])

/** What is said in the moment of a close crosses it: at most this many milliseconds each way, and a turn. */
const underWay = 12

/** Whether the client deserved it. */
export const checkClose = (conversation: ConversationState, code: number): void => {
  const { client } = conversation
  const { world } = client.simulation
  world.count(`close ${code}`)
  const reason = reasonOf.get(code)
  const fault = reason === undefined ? undefined : undeserved(conversation, reason)
  if (fault !== undefined) world.violate(`close ${code}`, `${client.name}: ${fault}`)
}

function undeserved(conversation: ConversationState, reason: CloseReason): string | undefined {
  const { authHash, authIndex, client, wire } = conversation
  const { attempts, database, troubleAt, world: { now } } = client.simulation
  // What had happened before its node let it in is no reason to close it later.
  const states = database.history.slice(conversation.isReady ? Math.min(authIndex, conversation.knownIndex) : authIndex)
  switch (reason) {
    case "defect":
      return "the server failed inside"
    case "restarting":
      if (conversation.node?.isStopping !== true) return "nobody has stopped the server"
      return client.level !== "plain" && conversation.isReady && conversation.drainMillis === undefined
        ? "it was not told when to come back"
        : undefined
    case "tryLater":
      // Set back, or taken over by a session that has ended since: then there is nobody to fight with.
      return now - troubleAt < 30_000 || database.rewoundAt >= (conversation.authAt ?? 0) ||
          database.claimsSince(client.key.ref, conversation.authAt ?? 0) > 1
        ? undefined
        : "the database was well"
    case "protocolViolation":
      if (conversation.errors.has("wireguard_key_rejected")) {
        return database.history.some(({ tables }) => isAnothers(tables, conversation))
          ? undefined
          : "its WireGuard key was nobody else's"
      }
      return conversation.faults >= 20 ? undefined : `it made ${conversation.faults} faults only`
    case "unauthenticated":
      return states.every((state) => keyOwner([state], authHash)?.type === (client.urlType ?? client.key.ref.type))
        ? "its key was live all the time"
        : undefined
    case "revoked":
      return states.every((state) => keyOwner([state], authHash) !== undefined)
        ? "its key was never revoked"
        : undefined
    case "deleted":
      return states.every(({ tables }) => tables[client.key.ref.type].has(client.key.ref.id))
        ? "it was never deleted"
        : undefined
    case "silent": {
      // What is dropped for being too much is no sign of life.
      if (conversation.errors.has("rate_limited")) return undefined
      const since = conversation.isReady ? wire?.said.findLast((at) => now - at > underWay) ?? 0 : conversation.openedAt
      const limit = Duration.toMillis(conversation.isReady ? settings.heartbeatTimeout : settings.authTimeout)
      return now - since >= limit ? undefined : `that is ${now - since} ms ago`
    }
    case "replaced":
      return database.claimsSince(client.key.ref, conversation.authAt ?? 0) > 1
        ? undefined
        : "nobody else has claimed it"
    case "tooMany":
      return conversation.said > 20 || attempts.filter(({ name }) => name === nameOf(client.key.ref)).length >= 30
        ? undefined
        : `it said ${conversation.said} things only`
    case "tooSlow":
      return conversation.wasSlow ? undefined : "it read as fast as it could"
    default:
      return undefined
  }
}

/** Somebody else has had the WireGuard key that it brought. */
function isAnothers({ agent, gateway }: Snapshot["tables"], { broughtKey, client }: ConversationState): boolean {
  return [...agent.values(), ...gateway.values()].some(({ id, publicKey }) =>
    publicKey === broughtKey && id !== client.key.ref.id
  )
}
