/** Data as text, in the form that was asked for. Pure. */

export const formats = ["table", "json", "jsonl", "yaml"] as const
export type Format = (typeof formats)[number]

type Row = Readonly<Record<string, unknown>>

/** `columns`: what a table shows of each row; all that is short unless given. Ends with a line feed unless it is empty. */
export const render = (format: Format, data: unknown, columns?: ReadonlyArray<string>): string => {
  switch (format) {
    case "json":
      return `${escaped(JSON.stringify(data, null, 2))}\n`
    case "jsonl":
      return (Array.isArray(data) ? data : [data]).map((item) => `${escaped(JSON.stringify(item))}\n`).join("")
    case "yaml":
      return escaped(yaml(data, 0).replace(/^\n/u, "").trimStart()) + "\n"
    case "table":
      return Array.isArray(data) ? tableOf(data.filter(isRow), columns) : isRow(data) ? fieldsOf(data) : `${data}\n`
  }
}

const isRow = (value: unknown): value is Row => typeof value === "object" && value !== null && !Array.isArray(value)

/** Lines of text in which no control character of a row, or of what a client has said, reaches the terminal as one. */
export const visible = (text: string): string => text.replaceAll(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "�")

/** The same in JSON and YAML, whose strings can name any character: JSON leaves those above 7F as they are. */
const escaped = (text: string): string =>
  text.replaceAll(
    /[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}]/gu,
    (found) =>
      Array.from({ length: found.length }, (_, at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, "0")}`).join(
        ""
      )
  )

const plain = (value: unknown): string => {
  if (value === null || value === undefined) return "-"
  return visible(typeof value === "string" ? value : JSON.stringify(value)).replaceAll("\n", "�")
}

const longest = 60

const cell = (value: unknown): string => {
  const text = plain(value)
  return text.length > longest ? `${text.slice(0, longest - 1)}…` : text
}

function tableOf(rows: ReadonlyArray<Row>, columns: ReadonlyArray<string> | undefined): string {
  const shown = columns ?? [...new Set(rows.flatMap((row) => Object.keys(row).filter((name) => !isRow(row[name]))))]
  if (rows.length === 0) return ""
  const lines = [shown.map(heading), ...rows.map((row) => shown.map((name) => cell(row[name])))]
  const widths = shown.map((_, index) => Math.max(...lines.map((line) => line[index]?.length ?? 0)))
  return lines.map((line) => `${line.map((text, index) => text.padEnd(widths[index] ?? 0)).join("  ").trimEnd()}\n`)
    .join("")
}

const heading = (name: string): string => name.replaceAll(/(?<=[a-z])[A-Z]/gu, (letter) => ` ${letter}`).toUpperCase()

/** Whole: what is shown once, such as a key, must not be shortened. */
function fieldsOf(row: Row): string {
  const width = Math.max(0, ...Object.keys(row).map((name) => name.length))
  return Object.entries(row).map(([name, value]) => `${name.padEnd(width)}  ${plain(value)}\n`).join("")
}

/** YAML 1.2, in which every JSON text is a value: so strings are quoted as JSON quotes them. */
function yaml(value: unknown, depth: number): string {
  const indent = `\n${"  ".repeat(depth)}`
  if (Array.isArray(value)) {
    if (value.length === 0) return " []"
    return value.map((item) => `${indent}-${yaml(item, depth + 1).replace(/^\n\s*/u, " ")}`).join("")
  }
  if (isRow(value)) {
    const entries = Object.entries(value)
    if (entries.length === 0) return " {}"
    return entries.map(([name, item]) =>
      `${indent}${/^[A-Za-z]\w*$/u.test(name) ? name : JSON.stringify(name)}:${yaml(item, depth + 1)}`
    )
      .join("")
  }
  return ` ${JSON.stringify(value ?? null)}`
}
