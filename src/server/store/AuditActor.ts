/** The actor of the current fiber, which every write transaction passes to the audit trigger. */
import { Context, Effect } from "effect"

/** The originator of a change, as the audit records it. */
export interface Actor {
  /** For example `admin`, `token:<id>`, `library` or `gateway:<id>`. */
  readonly actor: string
  /** The IP address of the actor; null for this process. */
  readonly address: string | null
  /** Display name, for example the name of an admin token. */
  readonly name?: string
}

/** The actor of the current fiber; `control` (this process) by default. */
export const AuditActor = Context.Reference<Actor>("control/store/AuditActor", {
  defaultValue: () => ({ actor: "control", address: null })
})

/** Runs an effect whose writes are audited under this actor. */
export const actingAs = (actor: string, address: string | null, name?: string) =>
  Effect.provideService(AuditActor, { actor, address, ...(name === undefined ? {} : { name }) })
