/** The processes of a run: started here, and ended here by their ids, whatever happens in between. */
import { type ChildProcess, fork } from "node:child_process"
import { join } from "node:path"
import { pathToFileURL } from "node:url"

export const repositoryRoot = join(import.meta.dirname, "..", "..")

const children = new Set<ChildProcess>()

export interface Child {
  readonly process: ChildProcess
  /** The end of what it wrote to stdout and stderr. */
  readonly recentOutput: () => string
}

/** A Node process with an IPC channel. `probed` ones answer to `probe.ts` besides what they do themselves. */
export const startNode = (
  file: string,
  options: { readonly env?: NodeJS.ProcessEnv; readonly withProbe: boolean }
): Child => {
  const probe = pathToFileURL(join(import.meta.dirname, "probe.ts")).href
  const child = fork(join(repositoryRoot, file), [], {
    execPath: process.execPath,
    execArgv: options.withProbe ? ["--expose-gc", "--import", probe] : [],
    env: options.env ?? inheritedEnvironment(),
    cwd: repositoryRoot,
    stdio: ["ignore", "pipe", "pipe", "ipc"]
  })
  children.add(child)
  child.once("exit", () => children.delete(child))
  let recentOutput = ""
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (data) => recentOutput = (recentOutput + String(data)).slice(-4_000))
  }
  return { process: child, recentOutput: () => recentOutput }
}

/** Of this process's environment only what every program needs: settings of Control must not leak in. */
export const inheritedEnvironment = (): NodeJS.ProcessEnv => {
  const { HOME, NODE_OPTIONS, PATH, TMPDIR } = process.env
  return {
    ...(HOME && { HOME }),
    ...(NODE_OPTIONS && { NODE_OPTIONS }),
    ...(PATH && { PATH }),
    ...(TMPDIR && { TMPDIR })
  }
}

/** Asks it to end, and after some seconds does not ask any more. */
export const stopChild = async (child: ChildProcess, killAfterMillis = 8_000): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  child.kill("SIGTERM")
  const timer = setTimeout(() => child.kill("SIGKILL"), killAfterMillis)
  await ended
  clearTimeout(timer)
}

export const stopAll = async (): Promise<void> => {
  await Promise.all([...children].map((child) => stopChild(child)))
}

/** At the very end, when nothing can be waited for. */
export const killAll = (): void => {
  for (const child of children) child.kill("SIGKILL")
}
