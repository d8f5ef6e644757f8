/** Text of one value for people: relative times, and no JSON. Pure. */
import { DateTime } from "effect"

/**
 * Replaces control characters except line feeds. Names and messages come from other people, and must not send escape
 * sequences to the terminal.
 */
export const replaceControlCharacters = (text: string): string =>
  text.replaceAll(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "�")

/** `exact`: as the API has it. `relative`: "3 min ago". `both`: the exact time with the relative one in parentheses. */
export type TimeStyle = "exact" | "relative" | "both"

const units = [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]] as const

/** `3 min ago`, `now` or `in 89 d`; `now` is in milliseconds since 1970. */
const relativeTime = (time: number, now: number): string => {
  const seconds = Math.trunc(Math.abs(now - time) / 1_000)
  if (seconds === 0) return "now"
  const [unit, length] = units.find(([, size]) => seconds >= size) ?? ["s", 1]
  const amount = `${Math.floor(seconds / length)} ${unit}`
  return time > now ? `in ${amount}` : `${amount} ago`
}

const timestamp = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z$/u

const textOfTime = (text: string, style: TimeStyle, now: number): string => {
  if (style === "exact") return text
  const relative = relativeTime(DateTime.toEpochMillis(DateTime.makeUnsafe(text)), now)
  return style === "relative" ? relative : `${text} (${relative})`
}

/** A chain is only useful in a file, so its length is enough to see. */
const textOfPem = (pem: string): string => {
  const count = pem.split("-----BEGIN ").length - 1
  return `${count} PEM ${count === 1 ? "block" : "blocks"}; -o json prints ${count === 1 ? "it" : "them"}`
}

/** One line without control characters. */
export const textOf = (value: unknown, style: TimeStyle, now: number): string => {
  if (value === null || value === undefined || value === "") return "-"
  if (Array.isArray(value)) return value.length === 0 ? "-" : value.map((item) => textOf(item, style, now)).join(", ")
  if (typeof value === "object") {
    const fields = Object.entries(value).map(([name, field]) => `${name} ${textOf(field, style, now)}`)
    return fields.length === 0 ? "-" : fields.join(", ")
  }
  const text = String(value)
  if (timestamp.test(text)) return textOfTime(text, style, now)
  if (text.startsWith("-----BEGIN ")) return textOfPem(text)
  return replaceControlCharacters(text).replaceAll("\n", "�")
}
