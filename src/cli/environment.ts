/** Environment variables of a command. */
import { type Environment as Variables, processEnvironment } from "#server/Settings.ts"
import { Context, Effect, Option } from "effect"

/** The variables of this process, unless others are provided. */
export const Environment: Context.Reference<Variables> = Context.Reference<Variables>("control/cli/Environment", {
  defaultValue: processEnvironment
})

/** Returns the value of a variable. An empty value counts as unset, as it does for the server. */
export const variable = (name: string): Effect.Effect<Option.Option<string>> =>
  Effect.map(
    Environment,
    (variables) => Option.filter(Option.fromUndefinedOr(variables[name]), (value) => value !== "")
  )
