/** Starts the child processes of a run and stops them by their process ids. */
import { endWithThisProcess } from "#processes/endWithParent.ts"
import { type ChildProcess, fork } from "node:child_process"
import { join } from "node:path"
import { pathToFileURL } from "node:url"

export const repositoryRoot = join(import.meta.dirname, "..", "..")

const children = new Set<ChildProcess>()

export interface Child {
  readonly process: ChildProcess
  /** Last 4,000 characters of stdout and stderr. */
  readonly recentOutput: () => string
}

/**
 * Starts a Node process with an IPC channel, in a network namespace if one is given. With `withProbe`, the process also answers the
 * calls of `processProbe.ts`.
 */
export const startNode = (
  file: string,
  options: { readonly env?: NodeJS.ProcessEnv; readonly withProbe: boolean; readonly namespace?: string }
): Child => {
  const probe = pathToFileURL(join(import.meta.dirname, "processProbe.ts")).href
  const flags = options.withProbe ? ["--expose-gc", "--import", probe] : []
  const child = fork(join(repositoryRoot, file), [], {
    ...options.namespace === undefined
      ? { execPath: process.execPath, execArgv: flags }
      : { execPath: "ip", execArgv: ["netns", "exec", options.namespace, process.execPath, ...flags] },
    env: options.env ?? inheritedEnvironment(),
    cwd: repositoryRoot,
    stdio: ["ignore", "pipe", "pipe", "ipc"]
  })
  endWithThisProcess(child)
  children.add(child)
  child.once("exit", () => children.delete(child))
  let recentOutput = ""
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (data) => recentOutput = (recentOutput + String(data)).slice(-4_000))
  }
  return { process: child, recentOutput: () => recentOutput }
}

/** The environment variables that every program needs. Settings of Control must not leak into the run. */
export const inheritedEnvironment = (): NodeJS.ProcessEnv => {
  const { HOME, NODE_OPTIONS, PATH, TMPDIR } = process.env
  return {
    ...(HOME && { HOME }),
    ...(NODE_OPTIONS && { NODE_OPTIONS }),
    ...(PATH && { PATH }),
    ...(TMPDIR && { TMPDIR })
  }
}

/** Sends SIGTERM, and SIGKILL after `killAfterMillis`. */
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

/** Kills all processes immediately, for exit handlers that cannot wait. */
export const killAll = (): void => {
  for (const child of children) child.kill("SIGKILL")
}
