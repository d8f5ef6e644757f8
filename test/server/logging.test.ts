/** Formats of log lines: text for people on a terminal, JSON for machines. */
import { jsonLine, layer, textLine } from "#server/logging.ts"
import { defaults, Settings, type SettingsValues } from "#server/Settings.ts"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Console, Effect, Logger, Redacted, Schema } from "effect"

class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>()("StoreUnavailable", { reason: Schema.String }) {
  override get message(): string {
    return this.reason
  }
}

/** The lines that `program` logs in this format, at 1970-01-01T00:00:00Z. */
const linesOf = (format: Logger.Logger<unknown, string>, program: Effect.Effect<void>) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    yield* program.pipe(Effect.provide(Logger.layer([Logger.map(format, (line) => void lines.push(line))])))
    return lines
  })

const unavailable = Cause.fail(new StoreUnavailable({ reason: "the database does not answer" }))

describe("a log line for people", () => {
  it.effect("a text line has the time to the second, the level in five columns, the message and its pairs", () =>
    Effect.gen(function*() {
      const program = Effect.all([
        Effect.annotateLogs(Effect.logInfo("ready"), { port: 3001, database: "an embedded one" }),
        Effect.logError("cannot write")
      ])
      assert.deepStrictEqual(yield* linesOf(textLine, Effect.asVoid(program)), [
        "1970-01-01T00:00:00Z INFO  ready port=3001 database=\"an embedded one\"",
        "1970-01-01T00:00:00Z ERROR cannot write"
      ])
    }))

  it.effect("a text line gives the reason of an expected failure on the same line, without a stack trace", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* linesOf(textLine, Effect.logWarning("cannot renew the lease", unavailable)), [
        "1970-01-01T00:00:00Z WARN  cannot renew the lease: the database does not answer"
      ])
    }))

  it.effect("a text line shows the stack trace of a defect on indented lines", () =>
    Effect.gen(function*() {
      const [line = ""] = yield* linesOf(textLine, Effect.logError("request failed", Cause.die(new Error("a bug"))))
      const [first, ...trace] = line.split("\n")
      assert.strictEqual(first, "1970-01-01T00:00:00Z ERROR request failed")
      assert.isNotEmpty(trace)
      assert.isTrue(trace.every((part) => part.startsWith("    ")), line)
      assert.include(line, "a bug")
    }))

  it.effect("a text line replaces control characters, so that a client's name cannot forge a line", () =>
    Effect.gen(function*() {
      const [line = ""] = yield* linesOf(textLine, Effect.logInfo("agent x\n1970-01-01T00:00:00Z ERROR \u001b[2J"))
      assert.notMatch(line, /\p{Cc}/u)
    }))

  it.effect("a text line never shows a secret", () =>
    Effect.gen(function*() {
      const key = Redacted.make("secret", { label: "master key" })
      const lines = yield* linesOf(textLine, Effect.annotateLogs(Effect.logInfo("key", key), { key }))
      assert.notInclude(lines.join("\n"), "secret")
    }))
})

describe("a log line for machines", () => {
  it.effect("a JSON line is one object with time, level and message, and no empty fields", () =>
    Effect.gen(function*() {
      const [line = ""] = yield* linesOf(jsonLine, Effect.logInfo("ready"))
      assert.deepStrictEqual(JSON.parse(line), {
        timestamp: "1970-01-01T00:00:00.000Z",
        level: "INFO",
        message: "ready"
      })
    }))

  it.effect("a JSON line has the cause and the annotations if there are any", () =>
    Effect.gen(function*() {
      const program = Effect.annotateLogs(Effect.logWarning("cannot renew the lease", unavailable), { node: "n1" })
      const [line = ""] = yield* linesOf(jsonLine, program)
      const { annotations, cause } = JSON.parse(line)
      assert.deepStrictEqual(annotations, { node: "n1" })
      assert.include(cause, "the database does not answer")
      assert.notInclude(line, "\n")
    }))

  it.effect("a JSON line never shows a secret", () =>
    Effect.gen(function*() {
      const key = Redacted.make("secret", { label: "master key" })
      const lines = yield* linesOf(jsonLine, Effect.annotateLogs(Effect.logInfo("key", key), { key }))
      assert.notInclude(lines.join("\n"), "secret")
    }))
})

describe("the logging layer", () => {
  const printed = (settings: Partial<SettingsValues>) =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      yield* Effect.logInfo("ready").pipe(
        Effect.andThen(Effect.logDebug("detail")),
        Effect.provide(layer),
        Effect.provide(Settings.layerOf({ ...defaults, ...settings })),
        Effect.provideService(Console.Console, { ...console, log: (line: string) => void lines.push(line) })
      )
      return lines
    })

  it.effect("the logging layer prints the configured format, and nothing below the configured level", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* printed({ logFormat: "pretty" }), ["1970-01-01T00:00:00Z INFO  ready"])
      assert.lengthOf(yield* printed({ logFormat: "json", logLevel: "Debug" }), 2)
      assert.lengthOf(yield* printed({ logFormat: "json", logLevel: "Warn" }), 0)
    }))
})
