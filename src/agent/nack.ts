/** What an error of the client's owner looks like to the operators of Control. Pure. */
import type { Nack } from "#schema/client.ts"
import { Revision, TunnelId } from "#schema/ids.ts"
import { Option, Schema } from "effect"

/**
 * `code`: the error's own `code` if it has one, else its name. `message`: the error's. `tunnelId`: the error's own, if it has
 * one. Never its stack.
 */
export const nackOf = (revision: number, error: unknown): typeof Nack.Type => {
  const facts = Option.getOrElse(decodeFacts(error), (): typeof Facts.Type => ({}))
  const message = facts.message ?? String(error)
  return {
    type: "nack",
    data: {
      revision: Revision.make(revision),
      code: (facts.code || facts.name || "error").slice(0, 64),
      message: message.slice(0, 500),
      ...(facts.tunnelId === undefined ? {} : { tunnelId: facts.tunnelId })
    }
  }
}

const Facts = Schema.Struct({
  code: Schema.optional(Schema.String),
  name: Schema.optional(Schema.String),
  message: Schema.optional(Schema.String),
  tunnelId: Schema.optional(TunnelId)
})

const decodeFacts = Schema.decodeUnknownOption(Facts)
