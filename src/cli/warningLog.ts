/** Log of the server's modules in a command. */
import { Layer, Logger, References } from "effect"

/** Prints warnings and errors of the server's modules on standard error, and nothing below. */
export const warningLog = Layer.merge(
  Logger.layer([Logger.withConsoleError(Logger.make(({ message }) => `control: ${String(message)}`))]),
  Layer.succeed(References.MinimumLogLevel, "Warn")
)
