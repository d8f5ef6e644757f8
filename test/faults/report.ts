/** docs/faults.md: what was tried, what was seen, and what of it could not be tried. */
import { writeFileSync } from "node:fs"
import { cpus, platform } from "node:os"
import { join } from "node:path"
import { type Options, type Result, sumWrites } from "./runFaults.ts"

const file = join(import.meta.dirname, "..", "..", "docs", "faults.md")

export const writeReport = (results: ReadonlyArray<Result>, options: Options): void => {
  writeFileSync(file, `${renderPage(results, options)}\n`)
}

const renderPage = (results: ReadonlyArray<Result>, { clients, repeat, seed }: Options): string => {
  const count = (verdict: string) => results.filter((result) => result.verdict === verdict).length
  const { acknowledged, rejected, unknown } = sumWrites(results)
  const minutes = (results.reduce((sum, { millis }) => sum + millis, 0) / 60_000).toFixed(0)
  const sorted = results.toSorted((one, other) => Number(one.fault.id.slice(1)) - Number(other.fault.id.slice(1)))
  return [
    "# The fault matrix",
    "",
    "Written by `npm run faults`: real processes (PostgreSQL, one or two nodes, a fleet of clients at both levels) behind a TCP",
    "proxy of the suite's own. Each fault is injected while writers write, healed, and judged: of the writes that were",
    "acknowledged none is lost (`acknowledged <= revisions <= acknowledged + unknown`), the log has no gap, each client's view is what plain",
    "SQL says that it must be, who is connected is shown online and nobody else, and no output has a secret in it.",
    "",
    `${results.length} faults, ${count("passed")} passed, ${count("failed")} failed, ${
      count("not tried")
    } not tried; ` +
    `${clients} clients, ${repeat === 1 ? "one seed" : `${repeat} seeds`} from ${seed}, ${minutes} minutes on ` +
    `${cpus().length} cores (${platform()}). Heartbeat timeout 6 s instead of 60 s, unless a row says otherwise.`,
    "",
    `Over all of them ${acknowledged} writes were acknowledged, ${unknown} had no answer and ${rejected} were rejected; none of those`,
    "that were acknowledged is missing, unless a row says otherwise in bold. Those of F10 to F15 and F38 are counted in their rows.",
    "",
    "| fault | injected | expected | seen | verdict |",
    "| ----- | -------- | -------- | ---- | ------- |",
    ...sorted.map(row)
  ].join("\n")
}

const row = ({ failures, fault, figures, gaps, verdict }: Result): string => {
  const seen = [...figures, ...failures.map((text) => `**${text}**`)].join("; ")
  const why = gaps.length === 0
    ? ""
    : verdict === "not tried"
    ? `: ${gaps.join("; ")}`
    : `; not tried: ${gaps.join("; ")}`
  return `| ${
    [`${fault.id} ${fault.name}`, fault.injected, fault.expected, seen, `${verdict}${why}`].map(cell).join(" | ")
  } |`
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ")
