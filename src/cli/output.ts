/** Formats data for standard output: as a table, as JSON, or as JSON lines. Pure. */

export const formats = ["table", "json", "jsonl"] as const
export type Format = (typeof formats)[number]

type Row = Readonly<Record<string, unknown>>

/**
 * Returns the text that a command prints: empty, or with a line feed at its end. `columns` are the columns of a table; by
 * default, every field that is not an object.
 */
export const render = (format: Format, data: unknown, columns?: ReadonlyArray<string>): string => {
  switch (format) {
    case "json":
      return `${escapeControlCharacters(JSON.stringify(data, null, 2))}\n`
    case "jsonl":
      return (Array.isArray(data) ? data : [data])
        .map((item) => `${escapeControlCharacters(JSON.stringify(item))}\n`)
        .join("")
    case "table":
      return Array.isArray(data) ? tableOf(data.filter(isRow), columns) : isRow(data) ? fieldsOf(data) : `${data}\n`
  }
}

const isRow = (value: unknown): value is Row => typeof value === "object" && value !== null && !Array.isArray(value)

/**
 * Replaces control characters except line feeds. Names and messages come from other people, and must not send escape
 * sequences to the terminal.
 */
export const replaceControlCharacters = (text: string): string =>
  text.replaceAll(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "�")

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

const textOf = (value: unknown): string => {
  if (value === null || value === undefined) return "-"
  return replaceControlCharacters(typeof value === "string" ? value : JSON.stringify(value)).replaceAll("\n", "�")
}

const maxCellLength = 60

const cell = (value: unknown): string => {
  const text = textOf(value)
  return text.length > maxCellLength ? `${text.slice(0, maxCellLength - 1)}…` : text
}

function tableOf(rows: ReadonlyArray<Row>, columns: ReadonlyArray<string> | undefined): string {
  const names = columns ?? [...new Set(rows.flatMap((row) => Object.keys(row).filter((name) => !isRow(row[name]))))]
  if (rows.length === 0) return ""
  const lines = [names.map(heading), ...rows.map((row) => names.map((name) => cell(row[name])))]
  const widths = names.map((_, index) => Math.max(...lines.map((line) => line[index]?.length ?? 0)))
  return lines.map((line) => `${line.map((text, index) => text.padEnd(widths[index] ?? 0)).join("  ").trimEnd()}\n`)
    .join("")
}

const heading = (name: string): string => name.replaceAll(/(?<=[a-z])[A-Z]/gu, (letter) => ` ${letter}`).toUpperCase()

/** One field a line, never shortened, because a field can be an API key that is shown only once. */
function fieldsOf(row: Row): string {
  const width = Math.max(0, ...Object.keys(row).map((name) => name.length))
  return Object.entries(row).map(([name, value]) => `${name.padEnd(width)}  ${textOf(value)}\n`).join("")
}
