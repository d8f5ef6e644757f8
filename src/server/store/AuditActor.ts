/** Who asks for a write: known to the fiber that serves them, and told to the database with each write, for the audit. */
import { Context, Effect } from "effect"

export interface Acting {
  /** Such as `admin`, `token:<id>`, `library` or `gateway:<id>`. */
  readonly actor: string
  /** From where; null when it is this process itself. */
  readonly address: string | null
  /** What people call the actor, where its id says little: the name of an admin token. */
  readonly name?: string
}

export const AuditActor = Context.Reference<Acting>("control/store/AuditActor", {
  defaultValue: () => ({ actor: "control", address: null })
})

/** Whatever this effect writes, it writes in the name of this actor. */
export const actingAs = (actor: string, address: string | null, name?: string) =>
  Effect.provideService(AuditActor, { actor, address, ...(name === undefined ? {} : { name }) })
