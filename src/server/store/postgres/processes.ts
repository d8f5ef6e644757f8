/** Child processes that must outlive neither their purpose nor this process's next start: run, found, and stopped for certain. */
import { type Duration, Effect, Option, Schedule } from "effect"
import { spawn } from "node:child_process"
import { readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs"

/** Whom a program runs as; empty for the same user as this process. */
export interface Account {
  readonly uid?: number
  readonly gid?: number
}

/** Neither the secrets nor the habits (`PGDATA`, `LC_MESSAGES`, …) of the surroundings reach a child. */
export const childEnvironment = { PATH: "/usr/bin:/bin:/usr/sbin:/sbin", LC_ALL: "C", TZ: "UTC" }

/** How a program ended: its exit code, none when it was killed or never ran, and all that it said. */
export interface Ended {
  readonly code: number | undefined
  readonly output: string
}

/** Runs a program to its end; interruption kills it. One that cannot be started ends without a code. */
export const run = (
  program: string,
  args: ReadonlyArray<string>,
  options: { readonly account: Account; readonly cwd: string; readonly input?: string }
): Effect.Effect<Ended> =>
  Effect.callback((resume) => {
    const notStarted = (error: unknown) => resume(Effect.succeed({ code: undefined, output: String(error) }))
    try {
      const child = spawn(program, args, { ...options.account, cwd: options.cwd, env: childEnvironment, stdio: "pipe" })
      let output = ""
      const collect = (chunk: Buffer) => {
        output += chunk.toString("utf8")
      }
      child.stdout.on("data", collect)
      child.stderr.on("data", collect)
      // A program that ends before it has read its input is told apart by its exit code.
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
 * The processes with one of these names that work in `directory`. On Linux by their working directory, which no process id
 * that was given out again can feign; elsewhere by their command line, which shows only those started with the path.
 */
export const processesIn = (directory: string, names: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<number>> =>
  process.platform === "linux"
    ? Effect.sync(() => {
      const real = orUndefined(() => realpathSync(directory))
      return readdirSync("/proc").filter((entry) => /^\d+$/u.test(entry)).map(Number).filter((pid) =>
        real !== undefined && orUndefined(() => readlinkSync(`/proc/${pid}/cwd`)) === real &&
        names.includes(orUndefined(() => readFileSync(`/proc/${pid}/comm`, "utf8").trim()) ?? "")
      )
    })
    : Effect.map(
      run("ps", ["-axo", "pid=,command="], { account: {}, cwd: "/" }),
      ({ output }) =>
        output.split("\n").flatMap((line) => {
          const [, pid, command = ""] = /^\s*(\d+)\s+(.*)$/u.exec(line) ?? []
          const named = names.some((name) => new RegExp(`(?:^|/)${name}(?:\\s|$)`, "u").test(command))
          return named && command.includes(directory) ? [Number(pid)] : []
        })
    )

/** One that is gone already is as good as told. */
export const tell = (pid: number, signal: NodeJS.Signals): void => {
  orUndefined(() => process.kill(pid, signal))
}

/**
 * Asks ever more firmly until `gone` succeeds: PostgreSQL takes SIGINT as an orderly shutdown without waiting for clients and
 * SIGQUIT as an immediate one (its log repairs the rest at the next start).
 */
export const stop = Effect.fnUntraced(
  function*(send: (signal: NodeJS.Signals) => Effect.Effect<unknown>, gone: Effect.Effect<unknown>) {
    const steps: ReadonlyArray<readonly [NodeJS.Signals, Duration.Input]> = [
      ["SIGINT", "10 seconds"],
      ["SIGQUIT", "5 seconds"],
      ["SIGKILL", "5 seconds"]
    ]
    for (const [signal, patience] of steps) {
      yield* send(signal)
      if (Option.isSome(yield* Effect.timeoutOption(gone, patience))) return
    }
  }
)

/** Succeeds once `condition` holds, looking every 20 ms: the end of somebody else's child cannot be waited for otherwise. */
export const until = (condition: Effect.Effect<boolean>): Effect.Effect<boolean> =>
  Effect.repeat(condition, { until: (holds) => holds, schedule: Schedule.spaced("20 millis") })

/** For questions about processes that may end while they are asked. */
const orUndefined = <A>(ask: () => A): A | undefined => {
  try {
    return ask()
  } catch {
    return undefined
  }
}
