/** Converts an error of the application's `apply` to a `nack` message. Pure. */
import type { Nack } from "#schema/messagesFromClients.ts"
import { Revision, TunnelId } from "#schema/ids.ts"
import { Option, Schema } from "effect"

/**
 * The nack for a thrown value. `code` is the error's `code`, otherwise its `name`. `message` and `tunnelId` are the error's
 * own. The stack is never included. Every thrown value yields a nack that Control accepts.
 */
export const nackFromError = (revision: number, error: unknown): typeof Nack.Type => {
  const code = textAt(error, "code") || textAt(error, "name") || "error"
  const message = textAt(error, "message") ??
    (typeof error === "string" ? error : "the thrown value is not an Error")
  const tunnelId = textAt(error, "tunnelId")
  return {
    type: "nack",
    data: {
      revision: Revision.make(revision),
      // A cut inside a surrogate pair leaves a lone surrogate, which is not valid text.
      code: code.slice(0, 64).toWellFormed(),
      message: message.slice(0, 500).toWellFormed(),
      ...(isTunnelId(tunnelId) ? { tunnelId } : {})
    }
  }
}

const isTunnelId = Schema.is(TunnelId)

/** Reads a text field. A getter that throws counts as a missing field. */
function textAt(error: unknown, field: string): string | undefined {
  const value = Option.liftThrowable((): unknown =>
    typeof error === "object" && error !== null ? Reflect.get(error, field) : undefined
  )()
  return Option.isSome(value) && typeof value.value === "string" ? value.value : undefined
}
