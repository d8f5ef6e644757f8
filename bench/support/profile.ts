/** Reads a CPU profile as Node writes it (the format of the Chrome DevTools Protocol, `Profiler.Profile`). */
import { readFile } from "node:fs/promises"

interface Profile {
  readonly nodes: ReadonlyArray<{
    readonly id: number
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
  }>
  readonly samples: ReadonlyArray<number>
  readonly timeDeltas: ReadonlyArray<number>
}

const shown = 14

/** The functions that took most of the time themselves, with their share of the time that was not idle. */
export const hottest = async (file: string): Promise<string> => {
  const { nodes, samples, timeDeltas } = JSON.parse(await readFile(file, "utf8")) as Profile
  const names = new Map(nodes.map(({ callFrame, id }) => [id, nameOf(callFrame)]))
  const times = new Map<string, number>()
  let busy = 0
  for (const [index, id] of samples.entries()) {
    const name = names.get(id) ?? ""
    if (name === "(idle)" || name.includes("node:inspector")) continue
    const took = timeDeltas[index] ?? 0
    busy += took
    times.set(name, (times.get(name) ?? 0) + took)
  }
  const most = [...times].toSorted(([, a], [, b]) => b - a).slice(0, shown)
  return `busy ${Math.round(busy / 1_000)} ms; ` + most.map(([name, took]) => `${(100 * took / busy).toFixed(1)} % ${name}`).join(", ")
}

function nameOf({ functionName, lineNumber, url }: Profile["nodes"][number]["callFrame"]): string {
  const name = functionName === "" ? "anonymous" : functionName
  const place = url.replace(/^file:\/\//u, "").replace(/^.*\/node_modules\//u, "").replace(/^.*\/(?=src\/|schema\/|bench\/)/u, "")
  return place === "" ? name : `${name} (${place}:${lineNumber + 1})`
}
