/** Log lines on standard output: readable text on a terminal, JSON elsewhere. */
import { Settings } from "./Settings.ts"
import { Cause, Effect, Formatter, Layer, Logger, References } from "effect"

/** One JSON object a line: `timestamp`, `level`, `message`, and `cause`, `annotations` and `spans` if there are any. */
export const jsonLine: Logger.Logger<unknown, string> = Logger.map(
  Logger.formatStructured,
  ({ annotations, cause, level, message, spans, timestamp }) =>
    Formatter.formatJson({
      timestamp,
      level,
      message,
      ...cause === undefined ? {} : { cause },
      ...isEmpty(annotations) ? {} : { annotations },
      ...isEmpty(spans) ? {} : { spans }
    })
)

/**
 * `2026-11-27T07:42:27Z INFO  message: reason key=value`. The reason is that of an expected failure. A defect follows as a
 * stack trace on indented lines, because only a developer can act on a defect.
 */
export const textLine: Logger.Logger<unknown, string> = Logger.make((options) => {
  const { annotations, level, message, spans, timestamp } = Logger.formatStructured.log(options)
  const { cause } = options
  const failures = cause.reasons.filter(Cause.isFailReason).map(({ error }) => `: ${messageOf(error)}`)
  const pairs = [
    ...Object.entries(annotations).map(([key, value]) => ` ${key}=${valueOf(value)}`),
    ...Object.entries(spans).map(([key, millis]) => ` ${key}=${millis}ms`)
  ]
  const hasDefect = cause.reasons.some(Cause.isDieReason)
  const trace = hasDefect ? Cause.pretty(cause).split("\n").map((line) => `\n    ${replaceControls(line)}`) : []
  const words = Array.isArray(message) ? message.map(messageOf).join(" ") : messageOf(message)
  const text = replaceControls([words, ...failures, ...pairs].join(""))
  return `${timestamp.replace(/\.\d+Z$/u, "Z")} ${level.padEnd(5)} ${text}${trace.join("")}`
})

/** Logs in the format and from the level of the settings on. */
export const layer = Layer.unwrap(Effect.map(Settings, ({ logFormat, logLevel }) =>
  Layer.mergeAll(
    Logger.layer([Logger.withConsoleLog(logFormat === "json" ? jsonLine : textLine)]),
    Layer.succeed(References.MinimumLogLevel, logLevel)
  )))

const isEmpty = (record: object): boolean => Object.keys(record).length === 0

const messageOf = (value: unknown): string =>
  typeof value === "string" ? value : value instanceof Error ? value.message : Formatter.formatJson(value)

/** A value with a space, a quote or an equals sign is quoted, so that a line can be split into its pairs. */
const valueOf = (value: unknown): string => {
  const text = messageOf(value)
  return /^[^\s"=]+$/u.test(text) ? text : JSON.stringify(text)
}

/** Names and messages come from clients, and must not start a line of their own or control the terminal. */
const replaceControls = (text: string): string => text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "�")
