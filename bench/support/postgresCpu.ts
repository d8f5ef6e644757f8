/** Reads the CPU time of local PostgreSQL processes from /proc. */
import { readdirSync, readFileSync } from "node:fs"

/** /proc counts in hundredths of a second, independent of the kernel's tick (proc_pid_stat(5), USER_HZ). */
const millisPerTick = 10

/** CPU time in ms of the postmaster and its running and ended children. Returns undefined on systems without /proc. */
export const postgresCpuMillis = (postmaster: number | undefined): number | undefined => {
  if (postmaster === undefined) return undefined
  const postmasterStat = readProcessStat(postmaster)
  if (postmasterStat === undefined) return undefined
  let ticks = postmasterStat.ticks + postmasterStat.ticksOfEnded
  for (const name of readdirSync("/proc")) {
    const stat = /^\d+$/u.test(name) ? readProcessStat(Number(name)) : undefined
    if (stat?.parent === postmaster) ticks += stat.ticks
  }
  return ticks * millisPerTick
}

function readProcessStat(pid: number): { parent: number; ticks: number; ticksOfEnded: number } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8")
    // The process name in parentheses may contain spaces, so parsing starts after the last parenthesis.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ").map(Number)
    const [, parent = 0] = fields
    const [user = 0, system = 0, userOfEnded = 0, systemOfEnded = 0] = fields.slice(11)
    return { parent, ticks: user + system, ticksOfEnded: userOfEnded + systemOfEnded }
  } catch {
    return undefined
  }
}
