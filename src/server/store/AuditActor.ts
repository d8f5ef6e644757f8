/** The actor of the current fiber; every write transaction passes the actor to the audit trigger. */
import { Context, Effect } from "effect"

export interface Actor {
  /** For example `admin`, `token:<id>`, `library` or `gateway:<id>`. */
  readonly actor: string
  /** The IP address of the actor; null for this process. */
  readonly address: string | null
  /** Display name, for example the name of an admin token. */
  readonly name?: string
}

export const AuditActor = Context.Reference<Actor>("control/store/AuditActor", {
  defaultValue: () => ({ actor: "control", address: null })
})

/** Runs an effect whose writes are audited under this actor. */
export const actingAs = (actor: string, address: string | null, name?: string) =>
  Effect.provideService(AuditActor, { actor, address, ...(name === undefined ? {} : { name }) })
