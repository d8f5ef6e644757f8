/** The processes below a process, and their end, on Linux. */
import { readdirSync, readFileSync } from "node:fs"

/** Processes below this one. */
export function descendants(pid: number): ReadonlyArray<number> {
  const children = orEmpty(() => readdirSync(`/proc/${pid}/task`)).flatMap((task) =>
    orEmpty(() => readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter((text) => text !== ""))
      .map(Number)
  )
  return [...children, ...children.flatMap(descendants)]
}

/** Program and arguments of a process; empty if the process has ended. */
export const commandOf = (pid: number): ReadonlyArray<string> =>
  orEmpty(() => readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0"))

const isRunning = (pid: number): boolean =>
  orEmpty(() => readFileSync(`/proc/${pid}/status`, "utf8").match(/^State:\s+[^Z]/mu) ?? []).length > 0

/** Node reports no end of a process that is not its child. */
export const untilGone = (pids: ReadonlyArray<number>): Promise<void> => untilTrue(() => !pids.some(isRunning))

/** Polls, because no event reports the state of processes below a child. */
export async function untilTrue(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((done) => setTimeout(done, 50))
}

/** For reads about processes that can end at the same moment. */
function orEmpty<A>(read: () => ReadonlyArray<A>): ReadonlyArray<A> {
  try {
    return read()
  } catch {
    return []
  }
}
