/** Log of a program: one line for each event on standard error, for people or for programs. */
import { timeText } from "#processes/clock.ts"

/** Levels, from the most important one. */
export const logLevels = ["error", "warn", "info", "debug"] as const
export type LogLevel = typeof logLevels[number]

export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>

export interface Log {
  readonly error: (message: string, fields?: LogFields) => void
  readonly warn: (message: string, fields?: LogFields) => void
  readonly info: (message: string, fields?: LogFields) => void
  readonly debug: (message: string, fields?: LogFields) => void
}

export interface LogOptions {
  readonly level: LogLevel
  readonly format: "pretty" | "json"
  readonly wall: () => number
  readonly write: (line: string) => void
}

/** Fields that are undefined are omitted. */
export const makeLog = ({ format, level, wall, write }: LogOptions): Log => {
  const enabled = logLevels.indexOf(level)
  const at = (lineLevel: LogLevel) => (message: string, fields: LogFields = {}) => {
    if (logLevels.indexOf(lineLevel) > enabled) return
    const time = timeText(wall())
    write(
      format === "json"
        ? `${JSON.stringify({ time, level: lineLevel, message, ...fields })}\n`
        : `${time} ${lineLevel.toUpperCase().padEnd(5)} ${clean(message)}${fieldsText(fields)}\n`
    )
  }
  return { error: at("error"), warn: at("warn"), info: at("info"), debug: at("debug") }
}

const fieldsText = (fields: LogFields): string =>
  Object.entries(fields)
    .flatMap(([name, value]) => value === undefined ? [] : [` ${name}=${fieldText(value)}`])
    .join("")

const fieldText = (value: string | number | boolean | null): string => {
  const text = clean(String(value))
  return /^[^\s"=]+$/u.test(text) ? text : JSON.stringify(text)
}

/** A visitor or a service can put control characters into a text, which would move a terminal's cursor. */
const clean = (text: string): string => text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "�")
