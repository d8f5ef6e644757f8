/** Where log lines go and how they look: one line each on standard output, JSON for machines or pretty for people. */
import { Settings } from "./Settings.ts"
import { Effect, Layer, Logger, References } from "effect"

export const layer = Layer.unwrap(Effect.map(Settings, ({ logFormat, logLevel }) =>
  Layer.mergeAll(
    Logger.layer([logFormat === "json" ? Logger.consoleJson : Logger.consolePretty()]),
    Layer.succeed(References.MinimumLogLevel, logLevel)
  )))
