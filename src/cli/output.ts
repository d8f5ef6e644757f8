/** Formats data for standard output: as a table, as JSON, as JSON lines, or as variables of an environment. Pure. */
import { replaceControlCharacters, textOf, type TimeStyle } from "./valueText.ts"

export const formats = ["table", "json", "jsonl"] as const
export type Format = (typeof formats)[number] | "env"

type Row = Readonly<Record<string, unknown>>

export interface TableOptions {
  /** Columns of a table; by default, every field that is not an object. */
  readonly columns?: ReadonlyArray<string> | undefined
  /** Whether a table shows times as the API has them. */
  readonly hasExactTimes?: boolean
  /** Milliseconds since 1970, for relative times. */
  readonly now: number
}

/** Returns the text that a command prints: empty, or with a line feed at its end. */
export const render = (format: Format, data: unknown, options: TableOptions): string => {
  switch (format) {
    case "json":
      return `${escapeControlCharacters(JSON.stringify(data, null, 2))}\n`
    case "jsonl":
      return (Array.isArray(data) ? data : [data])
        .map((item) => `${escapeControlCharacters(JSON.stringify(item))}\n`)
        .join("")
    case "env":
      return isRow(data) ? variablesOf(data) : ""
    case "table":
      if (Array.isArray(data)) return tableOf(data.filter(isRow), options)
      return isRow(data) ? fieldsOf(data, options.now) : `${data}\n`
  }
}

const isRow = (value: unknown): value is Row => typeof value === "object" && value !== null && !Array.isArray(value)

/** Escapes, in JSON, the control characters that `JSON.stringify` leaves as they are: those from U+007F up. */
const escapeControlCharacters = (json: string): string =>
  json.replaceAll(
    /[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) =>
      Array.from(
        { length: character.length },
        (_, index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, "0")}`
      ).join("")
  )

/** The secret that was created, under the name that clients and `control` read. No value needs quotes. */
function variablesOf({ apiKey, clientUrl, token }: Row): string {
  const variables = typeof apiKey === "string"
    ? [...typeof clientUrl === "string" ? [`CONTROL_URL=${clientUrl}`] : [], `CONTROL_API_KEY=${apiKey}`]
    : [`CONTROL_ADMIN_TOKEN=${String(token)}`]
  return variables.map((line) => `${replaceControlCharacters(line)}\n`).join("")
}

const maxCellLength = 60

const shorten = (text: string): string => text.length > maxCellLength ? `${text.slice(0, maxCellLength - 1)}…` : text

function tableOf(rows: ReadonlyArray<Row>, { columns, hasExactTimes = false, now }: TableOptions): string {
  const names = columns ?? [...new Set(rows.flatMap((row) => Object.keys(row).filter((name) => !isRow(row[name]))))]
  if (rows.length === 0) return ""
  const style: TimeStyle = hasExactTimes ? "exact" : "relative"
  const lines = [names.map(heading), ...rows.map((row) => names.map((name) => shorten(textOf(row[name], style, now))))]
  const widths = names.map((_, index) => Math.max(...lines.map((line) => line[index]?.length ?? 0)))
  return lines.map((line) => `${line.map((text, index) => text.padEnd(widths[index] ?? 0)).join("  ").trimEnd()}\n`)
    .join("")
}

/** `lastSeenAt` → `LAST SEEN`, because a relative time is no time of day. */
const heading = (name: string): string =>
  name.replace(/At$/u, "").replaceAll(/(?<=[a-z])[A-Z]/gu, (letter) => ` ${letter}`).toUpperCase() || "AT"

/** One field a line, never shortened, because a field can be an API key that is shown only once. */
function fieldsOf(row: Row, now: number): string {
  const width = Math.max(0, ...Object.keys(row).map((name) => name.length))
  return Object.entries(row).map(([name, value]) => `${name.padEnd(width)}  ${textOf(value, "both", now)}\n`).join("")
}
