/** Whether what a client was told is right, judged from the rows. */
import type { CloseReason } from "#schema/codes.ts"
import { nameOf } from "#schema/ids.ts"
import { Duration } from "effect"
import type { ClientConnectionState } from "./ClientConnectionState.ts"
import type { DatabaseState } from "./Database.ts"
import type { Message } from "./ViewReplica.ts"
import { settings } from "./Node.ts"
import { describeDifference, expectedView, isSameView } from "./expectedViews.ts"

const beforeAuth: ReadonlySet<string> = new Set(["auth_error", "error"])

/** Errors that only come when they are asked for. */
const answers: ReadonlySet<string> = new Set(["ack_ahead", "nack_unknown"])

/** Judges one message by itself. */
export const checkMessage = (connection: ClientConnectionState, message: Message, text: string): void => {
  const { client } = connection
  const { database: { secrets }, world } = client.simulation
  const { data, type } = message
  const me = nameOf(client.key.ref)
  for (const [secret, owner] of secrets) {
    const isMine = owner === me || owner.startsWith("certificate:") && maySeeCertificate(connection, owner.slice(12))
    if (!isMine && text.includes(secret)) {
      world.violate("I4 least privilege", `${client.name} was told a secret of ${owner} in ${type}`)
    }
  }
  if (type === "auth_success") return checkAuthSuccess(connection, message)
  if (!connection.isReady && !beforeAuth.has(type)) {
    world.violate("I1 no data before auth", `${client.name} was told ${type} before auth_success`)
  }
  if (connection.isReady && !connection.hasView && type !== "config") {
    world.violate("order", `${client.name} was told ${type} between auth_success and config`)
  }
  if (type === "error") checkError(connection, String(data["code"]))
  if (type === "heartbeat_ack" && client.replica.position?.revision !== data["revision"]) {
    const at = client.replica.position?.revision
    world.violate(
      "I2 monotone",
      `${client.name} is at ${at}, and was told ${String(data["revision"])} by heartbeat_ack`
    )
  }
  if (type === "certificate_accepted") checkCertificateAccepted(connection, String(data["domain"]))
}

/** A certificate's key is for the gateways in whose view its domain is, or was at what its node knew when it told of it. */
function maySeeCertificate({ client }: ClientConnectionState, domain: string): boolean {
  const { key: { ref }, level, simulation: { database } } = client
  if (ref.type !== "gateway") return false
  const states = database.history.slice(client.historyIndex)
  return states.some(({ tables }) => expectedView(tables, ref, level)?.certificates.has(domain) === true)
}

function checkAuthSuccess(connection: ClientConnectionState, { data }: Message): void {
  const { authHash, authIndex, client } = connection
  const { database, world } = client.simulation
  if (connection.isReady) world.violate("order", `${client.name} was told auth_success twice`)
  const id = data["agentId"] ?? data["gatewayId"]
  if (connection.authAt === undefined) world.violate("I1 no data before auth", `${client.name} got in without auth`)
  // A node knows keys by its feed: what it has not heard of yet it cannot refuse, so the key must live at what it knew or later.
  const since = Math.min(authIndex, connection.nodeIndex)
  const owner = keyOwner(database.history.slice(since), authHash)
  if (owner === undefined || owner.id !== id) {
    world.violate(
      "I1 no data before auth",
      `${client.name} got in as ${String(id)} with a key that opens nothing of it`
    )
  }
}

function checkError({ client, expectedErrors: provoked }: ClientConnectionState, code: string): void {
  if (!answers.has(code)) return
  const due = provoked.get(code) ?? 0
  if (due === 0) client.simulation.world.violate("I5 ack order", `${client.name} was told ${code} for no reason`)
  provoked.set(code, due - 1)
  client.simulation.world.count(`error ${code}`)
}

/** I13: what is said to be stored is, or was until somebody deleted it or stored another. */
function checkCertificateAccepted({ client, certificatesSent: obtained }: ClientConnectionState, domain: string): void {
  const { database, world } = client.simulation
  const since = obtained.get(domain)
  if (since === undefined || !database.history.slice(since).some(({ tables }) => tables.certificate.has(domain))) {
    world.violate("I13 durable receipt", `${client.name} was told that a certificate is stored for ${domain}`)
  }
}

function keyOwner(states: ReadonlyArray<DatabaseState>, hash: string) {
  for (const { tables } of states) {
    for (const key of tables.key.values()) if (key.hash === hash) return key.owner
  }
  return undefined
}

/** I3: the view is the one of some committed revision, and never an older one than before; `from` is the first that will do. */
export const checkView = (connection: ClientConnectionState, from: number): void =>
  match(connection, from, () => true, "of no revision")

/** I3 at `control.v1`: the view is the one of the very revision that its last message named. */
export const checkPosition = (connection: ClientConnectionState): void => {
  const { position } = connection.client.replica
  match(
    connection,
    0,
    ({ revision, timeline }) => revision === position?.revision && timeline === position.timeline,
    `that is not the one of ${position?.timeline} ${position?.revision}`
  )
}

function match(
  { client }: ClientConnectionState,
  from: number,
  mayBe: (state: DatabaseState) => boolean,
  fault: string
): void {
  const { database, world } = client.simulation
  const { history } = database
  const { view } = client.replica
  if (view === undefined) return
  let nearest: DatabaseState | undefined = history.at(-1)
  for (let index = Math.max(client.historyIndex, from); index < history.length; index++) {
    const state = history[index]
    if (state === undefined || !mayBe(state)) continue
    nearest = state
    const truth = expectedView(state.tables, client.key.ref, client.level)
    if (truth !== undefined && isSameView(view, truth)) {
      client.historyIndex = index
      return
    }
  }
  const truth = nearest === undefined ? undefined : expectedView(nearest.tables, client.key.ref, client.level)
  world.violate(
    "I3 no invention",
    `${client.name} has a view ${fault}, from #${client.historyIndex} on: ${describeDifference(view, truth)}`
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
const maxInFlightMillis = 12

/** Whether the client deserved it. */
export const checkClose = (connection: ClientConnectionState, code: number): void => {
  const { client } = connection
  const { world } = client.simulation
  world.count(`close ${code}`)
  const reason = reasonOf.get(code)
  const fault = reason === undefined ? undefined : findUnjustified(connection, reason)
  if (fault !== undefined) world.violate(`close ${code}`, `${client.name}: ${fault}`)
}

function findUnjustified(connection: ClientConnectionState, reason: CloseReason): string | undefined {
  const { authHash, authIndex, client, socket: socket } = connection
  const { authAttempts: attempts, database, databaseFaultAt: troubleAt, world: { now } } = client.simulation
  // What had happened before its node let it in is no reason to close it later.
  const states = database.history.slice(connection.isReady ? Math.min(authIndex, connection.nodeIndex) : authIndex)
  switch (reason) {
    case "defect":
      return "the server failed inside"
    case "restarting":
      if (connection.node?.isStopping !== true) return "nobody has stopped the server"
      return client.level !== "plain" && connection.isReady && connection.drainMillis === undefined
        ? "it was not told when to come back"
        : undefined
    case "tryLater":
      // Set back, or taken over by a session that has ended since: then there is nobody to fight with.
      return now - troubleAt < 30_000 || database.restoredAt >= (connection.authAt ?? 0) ||
          database.countClaims(client.key.ref, connection.authAt ?? 0) > 1
        ? undefined
        : "the database was well"
    case "protocolViolation":
      if (connection.errors.has("wireguard_key_rejected")) {
        return database.history.some(({ tables }) => isForeignKey(tables, connection))
          ? undefined
          : "its WireGuard key was nobody else's"
      }
      return connection.protocolErrors >= 20 ? undefined : `it made ${connection.protocolErrors} faults only`
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
      if (connection.errors.has("rate_limited")) return undefined
      const since = connection.isReady
        ? socket?.validFramesAt.findLast((at) => now - at > maxInFlightMillis) ?? 0
        : connection.openedAt
      const limit = Duration.toMillis(connection.isReady ? settings.heartbeatTimeout : settings.authTimeout)
      return now - since >= limit ? undefined : `that is ${now - since} ms ago`
    }
    case "replaced":
      return database.countClaims(client.key.ref, connection.authAt ?? 0) > 1
        ? undefined
        : "nobody else has claimed it"
    case "tooMany":
      return connection.messagesSent > 20 ||
          attempts.filter(({ name }) => name === nameOf(client.key.ref)).length >= 30
        ? undefined
        : `it said ${connection.messagesSent} things only`
    case "tooSlow":
      return connection.wasThrottled ? undefined : "it read as fast as it could"
    default:
      return undefined
  }
}

/** Somebody else has had the WireGuard key that it brought. */
function isForeignKey(
  { agent, gateway }: DatabaseState["tables"],
  { announcedKey: broughtKey, client }: ClientConnectionState
): boolean {
  return [...agent.values(), ...gateway.values()].some(({ id, publicKey }) =>
    publicKey === broughtKey && id !== client.key.ref.id
  )
}
