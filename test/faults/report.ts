/** Writes docs/faults.md from the results of the fault suite. */
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
    "# Fault tests",
    "",
    "`npm run faults` writes this page. It runs real processes (PostgreSQL, one or two nodes, clients of both levels) behind a",
    "TCP proxy. Each fault is injected under concurrent writes and then healed. Afterwards the suite checks five guarantees:",
    "",
    "- No acknowledged write is lost: `acknowledged <= revisions <= acknowledged + unknown`. A write without an answer is unknown.",
    "- The change log has no gap.",
    "- Every client's view equals the view computed by plain SQL.",
    "- Exactly the connected clients are shown online.",
    "- No output contains a secret.",
    "",
    `${results.length} faults: ${count("passed")} passed, ${count("failed")} failed, ${
      count("not tested")
    } not tested. ` +
    `${clients} clients, ${repeat === 1 ? "one seed" : `${repeat} seeds`} from ${seed}, ${minutes} minutes on ` +
    `${cpus().length} cores (${platform()}). The heartbeat timeout is 6 s instead of 60 s.`,
    "",
    `In total ${acknowledged} writes were acknowledged, ${rejected} were rejected and ${unknown} had no answer. The rows of F10 to`,
    "F15 and F38 count their own writes. Bold text marks a failed check.",
    "",
    "| fault | injected | expected | observed | result |",
    "| ----- | -------- | -------- | -------- | ------ |",
    ...sorted.map(row)
  ].join("\n")
}

const row = ({ failures, fault, observations, untested, verdict }: Result): string => {
  const observed = [...observations, ...failures.map((text) => `**${text}**`)].join("; ")
  const reasons = untested.length === 0
    ? ""
    : verdict === "not tested"
    ? `: ${untested.join("; ")}`
    : `; not tested: ${untested.join("; ")}`
  return `| ${
    [`${fault.id} ${fault.name}`, fault.injected, fault.expected, observed, `${verdict}${reasons}`].map(cell).join(
      " | "
    )
  } |`
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ")
