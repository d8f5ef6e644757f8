/** What is known of sessions where they are written down. */
import type { NotedNack } from "#schema/clientMessages.ts"
import { type ClientRef, ClientType, type KeyId, type Revision, SessionId } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { type Redacted, Schema } from "effect"

/** A session and the client that it stands for. */
export type Held = ClientRef & { readonly session: SessionId }

/** What a session is claimed with. */
export type Wanted = ClientRef & {
  readonly address: string
  /** The protocol level that was agreed on. */
  readonly level: Level
  /** The address that a gateway has told; null keeps the stored one. */
  readonly publicIp: string | null
  /** What it has authenticated with. */
  readonly keyId: KeyId
  /** Name and version of its software, if it told them. */
  readonly version: string | undefined
  /** Its WireGuard keys from now on; left out, the stored ones stay. `privateKey` is null for one that keeps it to itself. */
  readonly wireguard?: WireguardKeys
}

export interface WireguardKeys {
  readonly publicKey: string
  readonly privateKey: Redacted.Redacted | null
}

export type Claim = Wanted & Held

/** A session, how long ago its client last said something, in milliseconds, and how far it has come. */
export type Seen = Held & {
  readonly ageMillis: number
  readonly sent: Revision
  readonly applied: Revision | undefined
  readonly nack: NotedNack | undefined
}

/** A session, and how long ago it began, in milliseconds. */
export type Begun = Held & { readonly ageMillis: number }

/**
 * When something was written of who is there, by the database's clock, in microseconds: of two moments of one client, the later
 * one is that of the later write, whichever nodes have written.
 */
export type Moment = number

/** `taken`: a session that began later holds the client. `undone`: the database was set back to before the session. */
export interface Fates {
  readonly taken: ReadonlySet<SessionId>
  readonly undone: ReadonlySet<SessionId>
}

/** A session that has ended, with what its client has refused last. */
export type Ended = Held & { readonly nack: NotedNack | undefined }

/** The node's lease has lapsed: nothing was written. It is to be renewed first, since others may show its clients offline. */
export class LeaseLapsed extends Schema.TaggedError<LeaseLapsed>()("LeaseLapsed", {}) {}

/** A client that is shown offline since nobody speaks for its session any more. */
export const Swept = Schema.Struct({
  clientType: ClientType,
  clientId: Schema.String,
  session: SessionId,
  address: Schema.String,
  level: Schema.String,
  at: Schema.Finite,
  /** The name of the node that held the session; none for one that no lease is known of. */
  node: Schema.NullOr(Schema.String)
})
export type Swept = typeof Swept.Type

/**
 * All were claimed but those named here, by `nameOf`. `gone`: there is no such client. `busy`: somebody's transaction holds its
 * row; nobody else has to wait for that.
 */
export interface Claimed {
  readonly at: Moment
  readonly gone: ReadonlySet<string>
  readonly busy: ReadonlySet<string>
}

/** `held`: who holds its client still. `again`: whose client had been shown offline, and is shown online again since `at`. */
export interface Touched {
  readonly at: Moment
  readonly held: ReadonlySet<SessionId>
  readonly again: ReadonlySet<SessionId>
}

/**
 * All were released but those named here. `busy`: somebody has locked the row, and it is to be tried again. `taken`: a newer
 * session holds the client. `gone`: nobody holds it, or there is no such client any more.
 */
export interface Released {
  readonly at: Moment
  readonly busy: ReadonlySet<SessionId>
  readonly taken: ReadonlySet<SessionId>
  readonly gone: ReadonlySet<SessionId>
}
