/** Runs child processes, finds those that an earlier run has left, and stops them reliably. */
import { endWithThisProcess } from "#processes/endWithParent.ts"
import { type Duration, Effect, Option, Schedule } from "effect"
import { spawn } from "node:child_process"
import { readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs"

/** The account of a child process; empty for the account of this process. */
export interface Account {
  readonly uid?: number
  readonly gid?: number
}

/**
 * The whole environment of a child, so that it gets neither secrets nor settings (`PGDATA`, `LC_MESSAGES`, …) of this
 * process.
 */
export const childEnvironment = { PATH: "/usr/bin:/bin:/usr/sbin:/sbin", LC_ALL: "C", TZ: "UTC" }

/** The exit code of a program (undefined if it was killed or did not start), and its output on stdout and stderr. */
export interface ProgramResult {
  readonly code: number | undefined
  readonly output: string
}

/** Runs a program to its end. Interruption kills it. A program that cannot start has no exit code. */
export const runProgram = (
  program: string,
  args: ReadonlyArray<string>,
  options: { readonly account: Account; readonly cwd: string; readonly input?: string }
): Effect.Effect<ProgramResult> =>
  Effect.callback((resume) => {
    const notStarted = (error: unknown) => resume(Effect.succeed({ code: undefined, output: String(error) }))
    try {
      const child = spawn(program, args, { ...options.account, cwd: options.cwd, env: childEnvironment, stdio: "pipe" })
      // A killed server must not leave an `initdb` that writes while the next start removes its files.
      endWithThisProcess(child, "SIGKILL", options.account)
      let output = ""
      const collect = (chunk: Buffer) => {
        output += chunk.toString("utf8")
      }
      child.stdout.on("data", collect)
      child.stderr.on("data", collect)
      // A program that ends before it has read its input reports that by its exit code.
      child.stdin.on("error", () => {})
      child.stdin.end(options.input ?? "")
      child.once("error", notStarted)
      child.once("close", (code) => resume(Effect.succeed({ code: code ?? undefined, output })))
      return Effect.sync(() => child.kill("SIGKILL"))
    } catch (error) {
      notStarted(error)
    }
  })

/**
 * The ids of the processes with one of these names that run in `directory`. On Linux, the working directory identifies
 * them, so that a reused process id cannot match. Elsewhere the command line identifies them, if it contains the path.
 */
export const findProcesses = (directory: string, names: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<number>> =>
  process.platform === "linux"
    ? Effect.sync(() => {
      const real = orUndefined(() => realpathSync(directory))
      return readdirSync("/proc").filter((entry) => /^\d+$/u.test(entry)).map(Number).filter((pid) =>
        real !== undefined && orUndefined(() => readlinkSync(`/proc/${pid}/cwd`)) === real &&
        names.includes(orUndefined(() => readFileSync(`/proc/${pid}/comm`, "utf8").trim()) ?? "")
      )
    })
    : Effect.map(
      runProgram("ps", ["-axo", "pid=,command="], { account: {}, cwd: "/" }),
      ({ output }) =>
        output.split("\n").flatMap((line) => {
          const [, pid, command = ""] = /^\s*(\d+)\s+(.*)$/u.exec(line) ?? []
          const named = names.some((name) => new RegExp(`(?:^|/)${name}(?:\\s|$)`, "u").test(command))
          return named && command.includes(directory) ? [Number(pid)] : []
        })
    )

/** Sends a signal. Ignores a process that has already ended. */
export const sendSignal = (pid: number, signal: NodeJS.Signals): void => {
  orUndefined(() => process.kill(pid, signal))
}

/** Signal of a PostgreSQL shutdown that does not wait for clients. */
export const fastShutdown = "SIGINT"

/**
 * Sends signals to a PostgreSQL until `gone` succeeds. The first one is a fast shutdown. After 10 s follows SIGQUIT, an immediate shutdown with recovery from the WAL at the next start. After 5 s more follows SIGKILL.
 */
export const stopGracefully = Effect.fnUntraced(
  function*(send: (signal: NodeJS.Signals) => Effect.Effect<unknown>, gone: Effect.Effect<unknown>) {
    const steps: ReadonlyArray<readonly [NodeJS.Signals, Duration.Input]> = [
      [fastShutdown, "10 seconds"],
      ["SIGQUIT", "5 seconds"],
      ["SIGKILL", "5 seconds"]
    ]
    for (const [signal, timeout] of steps) {
      yield* send(signal)
      if (Option.isSome(yield* Effect.timeoutOption(gone, timeout))) return
    }
  }
)

/** Polls every 20 ms until `condition` holds, because Node cannot wait for the end of a process that is not its child. */
export const waitUntil = (condition: Effect.Effect<boolean>): Effect.Effect<boolean> =>
  Effect.repeat(condition, { until: (holds) => holds, schedule: Schedule.spaced("20 millis") })

/** For reads about processes that can end at the same moment. */
const orUndefined = <A>(read: () => A): A | undefined => {
  try {
    return read()
  } catch {
    return undefined
  }
}
