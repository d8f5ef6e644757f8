/** Summarizes a CPU profile of Node (Chrome DevTools Protocol, `Profiler.Profile`). */
import { readFile } from "node:fs/promises"

interface Frame {
  readonly functionName: string
  readonly url: string
  readonly lineNumber: number
}

interface Profile {
  readonly nodes: ReadonlyArray<
    { readonly id: number; readonly callFrame: Frame; readonly children?: ReadonlyArray<number> }
  >
  readonly samples: ReadonlyArray<number>
  readonly timeDeltas: ReadonlyArray<number>
}

const listedFunctions = 10

/**
 * Lists the functions with the most busy time, and the project's own functions that called them directly or through
 * libraries. Excludes idle time and the profiler itself.
 */
export const summarizeProfile = async (file: string): Promise<string> => {
  const { nodes, samples, timeDeltas } = JSON.parse(await readFile(file, "utf8")) as Profile
  const frames = new Map(nodes.map(({ callFrame, id }) => [id, callFrame]))
  const parents = new Map(nodes.flatMap(({ children = [], id }) => children.map((child) => [child, id] as const)))
  const byFunction = new Map<string, number>()
  const byCaller = new Map<string, number>()
  let busy = 0
  for (const [index, id] of samples.entries()) {
    const name = formatFrame(frames.get(id))
    if (name === "(idle)" || name.includes("node:inspector")) continue
    const sampleMicros = timeDeltas[index] ?? 0
    busy += sampleMicros
    byFunction.set(name, (byFunction.get(name) ?? 0) + sampleMicros)
    const caller = projectCaller(id, frames, parents)
    byCaller.set(caller, (byCaller.get(caller) ?? 0) + sampleMicros)
  }
  const formatTop = (times: ReadonlyMap<string, number>) =>
    [...times].toSorted(([, a], [, b]) => b - a).slice(0, listedFunctions)
      .map(([name, took]) => `\n      ${(100 * took / busy).toFixed(1)} % ${name}`).join("")
  return `busy ${Math.round(busy / 1_000)} ms\n    ran:${formatTop(byFunction)}\n    called by:${formatTop(byCaller)}`
}

function projectCaller(id: number, frames: ReadonlyMap<number, Frame>, parents: ReadonlyMap<number, number>): string {
  for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
    const frame = frames.get(at)
    if (frame !== undefined && /\/(?:src|schema)\//u.test(frame.url) && !frame.url.includes("node_modules"))
      return formatFrame(frame)
  }
  return formatFrame(frames.get(id))
}

function formatFrame(frame: Frame | undefined): string {
  if (frame === undefined) return ""
  const { functionName, lineNumber, url } = frame
  const name = functionName === "" ? "anonymous" : functionName
  const location = url.replace(/^file:\/\//u, "").replace(/^.*\/node_modules\//u, "").replace(
    /^.*\/(?=src\/|schema\/|bench\/)/u,
    ""
  )
  return location === "" ? name : `${name} (${location}:${lineNumber + 1})`
}
