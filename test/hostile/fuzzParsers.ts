/** Feeds mutated inputs to parsers and checks their results and the memory. */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { parserTargets } from "./parsers.ts"

export interface ParserFuzzOptions {
  /** Inputs of each parser. */
  readonly count: number
  readonly seed: number
  readonly print: (line: string) => void
}

export interface ParserFindings {
  readonly name: string
  /** Number of results by kind. */
  readonly results: Readonly<Record<string, number>>
  readonly faults: ReadonlyArray<string>
}

export const fuzzParsers = async (
  { count, print, seed }: ParserFuzzOptions
): Promise<ReadonlyArray<ParserFindings>> => {
  const findings: Array<ParserFindings> = []
  for (const { check, inputs, name } of await parserTargets()) {
    const results: Record<string, number> = {}
    const faults: Array<string> = []
    let heapAfterTenth = 0
    const began = performance.now()
    for (let index = 0; index < count && faults.length < 10; index += 1) {
      const input = inputs(seed, index)
      try {
        const kind = check(input, index)
        results[kind] = (results[kind] ?? 0) + 1
      } catch (error) {
        faults.push(`${name} ${index} of seed ${seed}: ${String(error)}: ${input.toString("base64").slice(0, 2_000)}`)
      }
      if (index === Math.floor(count / 10)) heapAfterTenth = heapUsed()
    }
    const growth = heapUsed() / heapAfterTenth
    if (count >= 100_000 && growth > 1.1) faults.push(`${name}: the heap grew by ${Math.round((growth - 1) * 100)} %`)
    print(`${count} inputs of ${name} in ${Math.round(performance.now() - began)} ms: ${JSON.stringify(results)}`)
    findings.push({ name, results, faults })
  }
  return findings
}

/** Bytes after a garbage collection. */
function heapUsed(): number {
  setFlagsFromString("--expose-gc")
  const collect = runInNewContext("gc") as () => void
  collect()
  return process.memoryUsage().heapUsed
}
