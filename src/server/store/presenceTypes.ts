/** Sessions, claims, touches and releases as the presence store takes and returns them. */
import type { RecordedNack } from "#schema/messagesFromClients.ts"
import { type ClientRef, ClientType, type KeyId, type Revision, SessionId } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { type Redacted, Schema } from "effect"

/** A session and its client. Every write of presence is fenced by the session. */
export type ClientSession = ClientRef & { readonly session: SessionId }

/** The data of a new session. */
export type ClaimRequest = ClientRef & {
  readonly address: string
  /** The negotiated protocol level. */
  readonly level: Level
  /** The public address that a gateway reports; null keeps the stored one. */
  readonly publicIp: string | null
  /** The API key that the client has authenticated with. */
  readonly keyId: KeyId
  /** Name and version of the client's software, if the client reports them. */
  readonly version: string | undefined
  /** The new WireGuard keys; absent keeps the stored ones. `privateKey` is null for a client that keeps its key to itself. */
  readonly wireguard?: WireguardKeys
}

/** The WireGuard key pair of a client, as Base64. */
export interface WireguardKeys {
  readonly publicKey: string
  readonly privateKey: Redacted.Redacted | null
}

/** A claim request with the id of the new session. */
export type Claim = ClaimRequest & ClientSession

/** The delivery state of a live session. */
export type SessionTouch = ClientSession & {
  /** Time since the client's last message, in milliseconds. */
  readonly ageMillis: number
  readonly sent: Revision
  readonly applied: Revision | undefined
  readonly nack: RecordedNack | undefined
}

/** A session that no longer holds its client. `ageMillis` is the time since its start, in milliseconds. */
export type LostSession = ClientSession & { readonly ageMillis: number }

/**
 * The time of a presence write, in microseconds since 1970 by the clock of the database. The times of one client have the order
 * of its writes, even if several nodes have written.
 */
export type PresenceTime = number

/**
 * `takenOver`: a session that started later holds the client. `forgotten`: the database was restored to before the session.
 */
export interface LossCauses {
  readonly takenOver: ReadonlySet<SessionId>
  readonly forgotten: ReadonlySet<SessionId>
}

/** A session that has ended, with the last rejection of its client. */
export type EndedSession = ClientSession & { readonly nack: RecordedNack | undefined }

/**
 * The lease of the node has expired and nothing was written. Renew it first, because other nodes may mark its clients
 * offline.
 */
export class LeaseLapsed extends Schema.TaggedError<LeaseLapsed>()("LeaseLapsed", {}) {}

/** A client that was marked offline because its session had no live node or no recent touch. */
export const ExpiredSession = Schema.Struct({
  clientType: ClientType,
  clientId: Schema.String,
  session: SessionId,
  address: Schema.String,
  level: Schema.String,
  at: Schema.Finite,
  /** Name of the node that held the session; null for a node without a lease. */
  node: Schema.NullOr(Schema.String)
})
export type ExpiredSession = typeof ExpiredSession.Type

/**
 * Every session was claimed except those of the clients in the three sets (by `formatClientRef`). `deleted`: the client does
 * not exist. `locked`: another transaction has locked the client's row; retry this one claim. `keyTaken`: the WireGuard key
 * belongs to another client.
 */
export interface ClaimResult {
  readonly at: PresenceTime
  readonly deleted: ReadonlySet<string>
  readonly locked: ReadonlySet<string>
  readonly keyTaken: ReadonlySet<string>
}

/**
 * `held`: sessions that still hold their client. `backOnline`: those of them whose client was marked offline, and is marked
 * online again since `at`. A session whose row is locked is in neither set.
 */
export interface TouchResult {
  readonly at: PresenceTime
  readonly held: ReadonlySet<SessionId>
  readonly backOnline: ReadonlySet<SessionId>
}

/**
 * Every session was released except those in the three sets. `locked`: another transaction has locked the row; retry.
 * `takenOver`: a newer session holds the client. `unclaimed`: no session holds the client, or the client does not exist.
 */
export interface ReleaseResult {
  readonly at: PresenceTime
  readonly locked: ReadonlySet<SessionId>
  readonly takenOver: ReadonlySet<SessionId>
  readonly unclaimed: ReadonlySet<SessionId>
}
