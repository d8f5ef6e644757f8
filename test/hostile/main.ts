/**
 * Attacks a real server: `npm run fuzz -- --frames 1000000 --streams 100000 --seed 1`. `--only INDEX` makes one attack of a seed
 * again. docs/hostile.md says what is tried and what was seen.
 */
import { openDatabase } from "#bench/support/Database.ts"
import { killAll, stopAll } from "#bench/support/children.ts"
import { removeRunDirectory } from "#bench/support/temporary.ts"
import { parseArgs } from "node:util"
import { fuzz } from "./fuzz.ts"

const { values } = parseArgs({
  options: {
    frames: { type: "string", default: "20000" },
    streams: { type: "string", default: "2000" },
    seed: { type: "string", default: "1" },
    only: { type: "string" }
  }
})

process.on("exit", () => {
  killAll()
  removeRunDirectory()
})
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130))

const print = (line: string) => void process.stdout.write(`${line}\n`)
const database = await openDatabase()
const began = performance.now()
try {
  const findings = await fuzz(database, {
    frames: Number(values.frames),
    streams: Number(values.streams),
    seed: Number(values.seed),
    ...(values.only === undefined ? {} : { only: Number(values.only) }),
    print
  })
  const { changes, descriptors, faults, outcomes, sent } = findings
  print(`${sent.frames} frames and ${sent.streams} streams in ${Math.round((performance.now() - began) / 1_000)} s`)
  print(`connections: ${JSON.stringify(outcomes)}`)
  print(
    `${changes} changes reached every bystander; ${descriptors.before} descriptors before, ${descriptors.after} after`
  )
  for (const fault of faults) print(`FAULT: ${fault}`)
  print(faults.length === 0 ? "no fault" : `${faults.length} faults (seed ${values.seed})`)
  process.exitCode = faults.length === 0 ? 0 : 1
} finally {
  await stopAll()
  await database.close()
}
