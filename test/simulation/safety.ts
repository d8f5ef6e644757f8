/** Safety checks: every message and close that a client receives, compared with the rows. */
import type { CloseReason } from "#schema/codes.ts"
import { formatClientRef } from "#schema/ids.ts"
import { Duration } from "effect"
import type { ClientConnectionState } from "./ClientConnectionState.ts"
import type { DatabaseState } from "./SimulatedDatabase.ts"
import type { Message } from "./ViewReplica.ts"
import { settings } from "./Node.ts"
import { describeDifference, expectedView, isSameView } from "./expectedViews.ts"

const allowedBeforeAuth: ReadonlySet<string> = new Set(["auth_error", "error"])

/** Errors that the server sends only in response to a message that provokes them. */
const responseErrors: ReadonlySet<string> = new Set(["ack_ahead", "nack_unknown"])

/** Checks one message by itself. */
export const checkMessage = (connection: ClientConnectionState, message: Message, text: string): void => {
  const { client } = connection
  const { database: { secrets }, world } = client.simulation
  const { data, type } = message
  const ownName = formatClientRef(client.key.ref)
  for (const [secret, owner] of secrets) {
    const isAllowed = owner === ownName ||
      owner.startsWith("certificate:") && maySeeCertificate(connection, owner.slice(12))
    if (!isAllowed && text.includes(secret)) {
      world.violate("I4 least privilege", `${client.name} received a secret of ${owner} in ${type}`)
    }
  }
  if (type === "auth_success") return checkAuthSuccess(connection, message)
  if (!connection.isReady && !allowedBeforeAuth.has(type)) {
    world.violate("I1 no data before auth", `${client.name} received ${type} before auth_success`)
  }
  if (connection.isReady && !connection.hasView && type !== "config") {
    world.violate("order", `${client.name} received ${type} between auth_success and config`)
  }
  if (type === "error") checkError(connection, String(data["code"]))
  if (type === "heartbeat_ack" && client.replica.position?.revision !== data["revision"]) {
    const at = client.replica.position?.revision
    world.violate(
      "I2 monotone",
      `${client.name} is at ${at}, and heartbeat_ack names ${String(data["revision"])}`
    )
  }
  if (type === "certificate_accepted") checkCertificateAccepted(connection, String(data["domain"]))
}

/** A gateway may see a certificate's key if the certificate is, or was when the node sent it, in the gateway's view. */
function maySeeCertificate({ client }: ClientConnectionState, domain: string): boolean {
  const { key: { ref }, level, simulation: { database } } = client
  if (ref.type !== "gateway") return false
  const states = database.history.slice(client.historyIndex)
  return states.some(({ tables }) => expectedView(tables, ref, level)?.certificates.has(domain) === true)
}

function checkAuthSuccess(connection: ClientConnectionState, { data }: Message): void {
  const { authHash, authIndex, client } = connection
  const { database, world } = client.simulation
  if (connection.isReady) world.violate("order", `${client.name} received auth_success twice`)
  const id = data["agentId"] ?? data["gatewayId"]
  if (connection.authAt === undefined)
    world.violate("I1 no data before auth", `${client.name} was authenticated without auth`)
  // A node rejects a key only after it has read the revocation. The key must be valid at the state that the node knew, or
  // later.
  const since = Math.min(authIndex, connection.nodeIndex)
  const owner = keyOwner(database.history.slice(since), authHash)
  if (owner === undefined || owner.id !== id) {
    world.violate(
      "I1 no data before auth",
      `${client.name} was authenticated as ${String(id)} with a key of another client`
    )
  }
}

function checkError({ client, expectedErrors: provoked }: ClientConnectionState, code: string): void {
  if (!responseErrors.has(code)) return
  const expected = provoked.get(code) ?? 0
  if (expected === 0)
    client.simulation.world.violate("I5 ack order", `${client.name} received ${code} without a reason`)
  provoked.set(code, expected - 1)
  client.simulation.world.count(`error ${code}`)
}

/** I13: an accepted certificate is stored, or was stored until a later deletion or replacement. */
function checkCertificateAccepted({ client, certificatesSent: obtained }: ClientConnectionState, domain: string): void {
  const { database, world } = client.simulation
  const since = obtained.get(domain)
  if (since === undefined || !database.history.slice(since).some(({ tables }) => tables.certificate.has(domain))) {
    world.violate(
      "I13 durable receipt",
      `${client.name} received certificate_accepted for ${domain}, which was never stored`
    )
  }
}

function keyOwner(states: ReadonlyArray<DatabaseState>, hash: string) {
  for (const { tables } of states) {
    for (const key of tables.key.values()) if (key.hash === hash) return key.owner
  }
  return undefined
}

/** I3: the view equals the view at some committed revision, at or after `from`, and never an older one than before. */
export const checkView = (connection: ClientConnectionState, from: number): void =>
  findMatchingState(connection, from, () => true, "of no revision")

/** I3 at `control.v1`: the view equals the view at exactly the revision of the last message. */
export const checkPosition = (connection: ClientConnectionState): void => {
  const { position } = connection.client.replica
  findMatchingState(
    connection,
    0,
    ({ revision, timeline }) => revision === position?.revision && timeline === position.timeline,
    `that is not the view at ${position?.timeline} ${position?.revision}`
  )
}

function findMatchingState(
  { client }: ClientConnectionState,
  from: number,
  isCandidate: (state: DatabaseState) => boolean,
  fault: string
): void {
  const { database, world } = client.simulation
  const { history } = database
  const { view } = client.replica
  if (view === undefined) return
  let closest: DatabaseState | undefined = history.at(-1)
  for (let index = Math.max(client.historyIndex, from); index < history.length; index++) {
    const state = history[index]
    if (state === undefined || !isCandidate(state)) continue
    closest = state
    const truth = expectedView(state.tables, client.key.ref, client.level)
    if (truth !== undefined && isSameView(view, truth)) {
      client.historyIndex = index
      return
    }
  }
  const truth = closest === undefined ? undefined : expectedView(closest.tables, client.key.ref, client.level)
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

/** Maximum milliseconds that a message is in flight both ways, plus one turn. Such a message may cross a close. */
const maxInFlightMillis = 12

/** Checks that the server had a reason for this close code. */
export const checkClose = (connection: ClientConnectionState, code: number): void => {
  const { client } = connection
  const { world } = client.simulation
  world.count(`close ${code}`)
  const reason = reasonOf.get(code)
  const failure = reason === undefined ? undefined : findUnjustified(connection, reason)
  if (failure !== undefined) world.violate(`close ${code}`, `${client.name}: ${failure}`)
}

function findUnjustified(connection: ClientConnectionState, reason: CloseReason): string | undefined {
  const { authHash, authIndex, client, socket } = connection
  const { authAttempts, database, databaseFaultAt, world: { now } } = client.simulation
  // Changes before the node authenticated the client do not justify a later close.
  const states = database.history.slice(connection.isReady ? Math.min(authIndex, connection.nodeIndex) : authIndex)
  switch (reason) {
    case "defect":
      return "the server had a defect"
    case "restarting":
      if (connection.node?.isStopping !== true) return "the server was not stopped"
      return client.level !== "plain" && connection.isReady && connection.drainMillis === undefined
        ? "no drain message came before"
        : undefined
    case "tryLater":
      // A restore may have removed the session, or a session that ended since may have replaced it. Then 1013 is correct.
      return now - databaseFaultAt < 30_000 || database.restoredAt >= (connection.authAt ?? 0) ||
          database.countClaims(client.key.ref, connection.authAt ?? 0) > 1
        ? undefined
        : "the database had no fault"
    case "protocolViolation":
      if (connection.errors.has("wireguard_key_rejected")) {
        return database.history.some(({ tables }) => isForeignKey(tables, connection))
          ? undefined
          : "its WireGuard key belongs to no other client"
      }
      return connection.protocolErrors >= 20 ? undefined : `only ${connection.protocolErrors} protocol errors`
    case "unauthenticated":
      return states.every((state) => keyOwner([state], authHash)?.type === (client.urlType ?? client.key.ref.type))
        ? "its key was valid all the time"
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
      // Messages dropped by the rate limit do not count as a sign of life.
      if (connection.errors.has("rate_limited")) return undefined
      const since = connection.isReady
        ? socket?.validFramesAt.findLast((at) => now - at > maxInFlightMillis) ?? 0
        : connection.openedAt
      const limit = Duration.toMillis(connection.isReady ? settings.heartbeatTimeout : settings.authTimeout)
      return now - since >= limit ? undefined : `the last valid message was ${now - since} ms ago`
    }
    case "replaced":
      return database.countClaims(client.key.ref, connection.authAt ?? 0) > 1
        ? undefined
        : "no other session has claimed it"
    case "tooMany":
      return connection.messagesSent > 20 ||
          authAttempts.filter(({ name }) => name === formatClientRef(client.key.ref)).length > loginBurst(connection)
        ? undefined
        : `only ${connection.messagesSent} messages sent`
    case "tooSlow":
      return connection.wasThrottled ? undefined : "it read as fast as it could"
    default:
      return undefined
  }
}

/** Logins of a client in a row; fewer if each one may change its WireGuard key or public address (rowChangeLimit.ts). */
const loginBurst = ({ announcedKey, client }: ClientConnectionState): number =>
  announcedKey === undefined && client.publicIp === undefined ? 29 : 10

/** Another client has, or had, the announced WireGuard key. */
function isForeignKey(
  { agent, gateway }: DatabaseState["tables"],
  { announcedKey: broughtKey, client }: ClientConnectionState
): boolean {
  return [...agent.values(), ...gateway.values()].some(({ id, publicKey }) =>
    publicKey === broughtKey && id !== client.key.ref.id
  )
}
