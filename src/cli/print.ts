/** The option `--output`, and printing of data to standard output. */
import { Console, Effect, Stdio, Stream } from "effect"
import { Flag } from "effect/cli"
import { type Format, formats, render } from "./output.ts"

export const output = Flag.Literals("output", formats).pipe(
  Flag.withAlias("o"),
  Flag.withMetavar("FORMAT"),
  Flag.withDescription("Format of the data on standard output; table is the default"),
  Flag.withDefault("table")
)

/** Prints `data` completely, waiting while the reader of a pipe is slow. `columns` are those of `render`. */
export const print = Effect.fnUntraced(function*(format: Format, data: unknown, columns?: ReadonlyArray<string>) {
  const stdio = yield* Stdio.Stdio
  yield* Effect.orDie(Stream.run(Stream.make(render(format, data, columns)), stdio.stdout()))
  if (format === "table" && Array.isArray(data) && data.length === 0) yield* Console.error("control: no items")
})
