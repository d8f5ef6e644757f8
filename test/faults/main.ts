/** Command line of the fault suite. */
import { readOptions } from "#conformance/programOptions.ts"
import { numberOption } from "#support/numberOption.ts"
import { endAll } from "./childProcesses.ts"
import { allFaults } from "./allFaults.ts"
import { ClusterPool, runFaults, sumWrites } from "./runFaults.ts"
import { writeReport } from "./report.ts"

const help =
  `Inject faults into real processes, and check that no acknowledged write is lost. A run of all faults writes docs/faults.md.

Usage: npm run faults -- [options]

Options:
  --only F5,F17  Run only these faults
  --seed N       Seed of the random choices; 1 by default
  --clients N    Number of clients; 200 by default
  --repeat N     Number of runs of each fault; 1 by default
  --write        Write docs/faults.md also after a run of some faults
  --help, -h     Show this help`

const { values } = readOptions(help, {
  options: {
    only: { type: "string", default: "" },
    seed: { type: "string", default: "1" },
    clients: { type: "string", default: "200" },
    repeat: { type: "string", default: "1" },
    write: { type: "boolean", default: false }
  }
})

/** `F05` means `F5`. */
const only = values.only.split(",").filter((id) => id !== "").map((id) => `F${Number(id.trim().replace(/^F/iu, ""))}`)
const chosen = allFaults.filter(({ id }) => only.length === 0 || only.includes(id))
const unknown = only.filter((id) => !allFaults.some((fault) => fault.id === id))
if (unknown.length > 0) throw new Error(`unknown fault ${unknown.join(", ")}`)

const options = {
  clients: numberOption("clients", values.clients),
  seed: numberOption("seed", values.seed, 0),
  repeat: numberOption("repeat", values.repeat)
}
const clusters = new ClusterPool(options)
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    endAll()
    process.exit(130)
  })
}
const results = await runFaults(chosen, options, clusters, (line) => process.stdout.write(`${line}\n`))
if (only.length === 0 || values.write) writeReport(results, options)
const failed = results.filter(({ verdict }) => verdict === "failed")
const writes = sumWrites(results)
process.stdout.write(
  `${writes.acknowledged} writes acknowledged, ${writes.unknown} without an answer, ${writes.rejected} rejected\n`
)
process.stdout.write(`${results.length} faults, ${failed.length} failed\n`)
process.exitCode = failed.length === 0 ? 0 : 1
