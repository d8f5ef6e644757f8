/** Formats results as a table, and numbers with their units. */
import type { Row } from "./BenchRun.ts"

/** Renders a Markdown table with padded cells, which is readable on a terminal too. */
export const renderTable = (rows: ReadonlyArray<Row>): string => {
  const head = ["measurement", "Control", "bare ws", "ratio", "goal", "met", "CPU of a core"]
  const body = rows.map(({ control, isMet, ratio, bare, goal = "", usage = "", label }) => [
    label,
    control,
    bare,
    ratio === undefined ? "" : ratio.toPrecision(ratio < 0.1 ? 1 : 2),
    goal,
    isMet === undefined ? "" : isMet ? "yes" : "NO",
    usage
  ])
  const widths = head.map((_, column) => Math.max(...[head, ...body].map((cells) => cells[column]?.length ?? 0)))
  const line = (cells: ReadonlyArray<string>) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`
  return [line(head), `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`, ...body.map(line)].join("\n")
}

export const milliseconds = (value: number): string => `${threeDigits(value)} ms`

export const microseconds = (millis: number): string => `${threeDigits(millis * 1_000)} µs`

export const kilobytes = (bytes: number): string => `${threeDigits(bytes / 1_000)} kB`

export const thousands = (value: number): string =>
  value >= 10_000 ? `${Math.round(value / 1_000)} k` : `${Math.round(value)}`

function threeDigits(value: number): string {
  return Math.abs(value) >= 100 ? String(Math.round(value)) : value.toPrecision(3)
}
