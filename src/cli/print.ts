/** The option `--output`, and printing of data to standard output. */
import { Clock, Console, Effect, Stdio, Stream } from "effect"
import { Flag } from "effect/cli"
import { type Format, formats, render, type TableOptions } from "./output.ts"

const outputOf = <F extends Format>(choices: ReadonlyArray<F>, description: string) =>
  Flag.Literals("output", choices).pipe(
    Flag.withAlias("o"),
    Flag.withMetavar("FORMAT"),
    Flag.withDescription(description)
  )

export const output = Flag.withDefault(
  outputOf(formats, "Format of the data on standard output; table is the default"),
  "table" as const
)

/** For commands that create a secret. */
export const outputOfSecret = Flag.withDefault(
  outputOf(
    [...formats, "env"] as const,
    "Format of the data on standard output; table is the default, env prints the secret as a variable for a shell or an env file"
  ),
  "table" as const
)

/** Prints `data` completely, waiting while the reader of a pipe is slow. */
export const print = Effect.fnUntraced(
  function*(format: Format, data: unknown, options: Omit<TableOptions, "now"> = {}) {
    const stdio = yield* Stdio.Stdio
    const now = yield* Clock.currentTimeMillis
    yield* Effect.orDie(Stream.run(Stream.make(render(format, data, { ...options, now })), stdio.stdout()))
    if (format === "table" && Array.isArray(data) && data.length === 0) yield* Console.error("control: no items")
  }
)
