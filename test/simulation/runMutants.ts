/**
 * Applies one deliberate fault after the other to a copy of the project, and runs seeds until one finds it:
 * `node test/simulation/runMutants.ts [--seeds 600] [--jobs 2] [--only word]`. Ends with 1 if a fault is not found.
 */
import { spawn } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import type { Mutant } from "./Mutant.ts"
import { mutants } from "./mutations.ts"

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "600" },
    jobs: { type: "string", default: "2" },
    only: { type: "string", default: "" }
  }
})

const root = join(import.meta.dirname, "..", "..")
const print = (line: string) => process.stdout.write(`${line}\n`)

interface Result {
  readonly mutant: Mutant
  /** What found it; undefined when nothing did. */
  readonly found: string | undefined
}

const waiting = mutants.filter(({ name }) => name.includes(values.only))
const results: Array<Result> = []
await Promise.all(Array.from({ length: Number(values.jobs) }, work))

const survivors = results.filter(({ found }) => found === undefined)
print(`${results.length - survivors.length} of ${results.length} faults are found`)
for (const { mutant } of survivors) print(`NOT FOUND: ${mutant.name}`)
process.exitCode = survivors.length === 0 ? 0 : 1

async function work(): Promise<void> {
  const copy = mkdtempSync(join(tmpdir(), "control-mutants-"))
  try {
    for (const part of ["src", "schema", "test/simulation", "test/support", "package.json", "tsconfig.json"]) {
      cpSync(join(root, part), join(copy, part), { recursive: true })
    }
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"))
    for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
      const found = await seek(mutant, copy)
      results.push({ mutant, found })
      print(
        `${found === undefined ? "NOT FOUND" : "found    "}  ${mutant.name}${found === undefined ? "" : `: ${found}`}`
      )
    }
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}

async function seek({ edits }: Mutant, copy: string): Promise<string | undefined> {
  const before = new Map(edits.map(({ file }) => [file, readFileSync(join(copy, file), "utf8")]))
  try {
    for (const { file, find, replace } of edits) {
      const text = readFileSync(join(copy, file), "utf8")
      if (text.split(find).length !== 2) {
        print(`${file} does not have exactly once: ${find}`)
        return undefined
      }
      writeFileSync(join(copy, file), text.replace(find, () => replace))
    }
    const output = await run(copy)
    const [, seed, rule] = /^seed (\d+) broke "([^"]+)"/mu.exec(output) ?? []
    if (seed !== undefined) return `${rule} at seed ${seed}`
    // A fault that keeps the program from starting was found by that.
    return / seeds, 0 failures/u.test(output) ? undefined : `it does not run: ${output.slice(0, 200)}`
  } finally {
    for (const [file, text] of before) writeFileSync(join(copy, file), text)
  }
}

function run(cwd: string): Promise<string> {
  const args = ["test/simulation/main.ts", "--seeds", values.seeds, "--most-failures", "1"]
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd })
    let output = ""
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk) => {
        output += String(chunk)
      })
    }
    child.once("error", reject)
    child.once("close", () => resolve(output))
  })
}
