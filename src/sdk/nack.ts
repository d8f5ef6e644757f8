/** What an error of the client's owner looks like to the operators of Control. Pure. */
import type { Nack } from "#schema/clientMessages.ts"
import { Revision, TunnelId } from "#schema/ids.ts"
import { Option, Schema } from "effect"

/**
 * `code`: the error's own `code` if it has one, else its name. `message`: the error's. `tunnelId`: the error's own, if it has
 * one. Never its stack. Whatever was thrown, it is a nack that Control takes.
 */
export const nackOf = (revision: number, error: unknown): typeof Nack.Type => {
  const code = textAt(error, "code") || textAt(error, "name") || "error"
  const message = textAt(error, "message") ??
    (typeof error === "string" ? error : "something else than an Error was thrown")
  const tunnelId = textAt(error, "tunnelId")
  return {
    type: "nack",
    data: {
      revision: Revision.make(revision),
      // Cut in the middle of a character, its half would be no text.
      code: code.slice(0, 64).toWellFormed(),
      message: message.slice(0, 500).toWellFormed(),
      ...(isTunnelId(tunnelId) ? { tunnelId } : {})
    }
  }
}

const isTunnelId = Schema.is(TunnelId)

/** A getter may throw, too. */
function textAt(error: unknown, field: string): string | undefined {
  const value = Option.liftThrowable((): unknown =>
    typeof error === "object" && error !== null ? Reflect.get(error, field) : undefined
  )()
  return Option.isSome(value) && typeof value.value === "string" ? value.value : undefined
}
