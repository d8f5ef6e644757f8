/** Why a command did not do what it was told, and the exit code that says so to a script. */
import { Schema } from "effect"

export const exitCodes = {
  failed: 1,
  usage: 2,
  notFound: 3,
  unauthorized: 4,
  unreachable: 5,
  timedOut: 6
} as const

export type Kind = keyof typeof exitCodes

export class CommandFailed extends Schema.TaggedError<CommandFailed>()("CommandFailed", {
  kind: Schema.Literals(["failed", "usage", "notFound", "unauthorized", "unreachable", "timedOut"]),
  reason: Schema.String
}) {
  override get message(): string {
    return this.reason
  }
}

export const fail = (kind: Kind, reason: string) => new CommandFailed({ kind, reason })
