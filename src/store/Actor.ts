/** Who asks for a write: known to the fiber that serves them, and told to the database with each write, for the audit. */
import { Context, Effect } from "effect"

export interface Acting {
  /** Such as `admin`, `library` or `gateway:<id>`. */
  readonly actor: string
  /** From where; null when it is this process itself. */
  readonly address: string | null
}

export const Actor = Context.Reference<Acting>("control/store/Actor", {
  defaultValue: () => ({ actor: "control", address: null })
})

/** Whatever this effect writes, it writes in the name of this actor. */
export const actingAs = (actor: string, address: string | null) => Effect.provideService(Actor, { actor, address })
