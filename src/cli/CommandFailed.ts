/** The error of a command, and the exit code of each kind of failure. */
import { Schema } from "effect"

export const exitCodes = {
  failed: 1,
  usage: 2,
  notFound: 3,
  unauthorized: 4,
  unreachable: 5,
  timedOut: 6,
  /** `control check` has found a broken link. */
  broken: 8
} as const

type FailureKind = keyof typeof exitCodes

export class CommandFailed extends Schema.TaggedError<CommandFailed>()("CommandFailed", {
  kind: Schema.Literals(["failed", "usage", "notFound", "unauthorized", "unreachable", "timedOut", "broken"]),
  reason: Schema.String
}) {
  override get message(): string {
    return this.reason
  }
}

/** Returns the error; `reason` is what `control: …` prints. */
export const commandFailed = (kind: FailureKind, reason: string) => new CommandFailed({ kind, reason })
