/** Runs `control` in tests: inside the test process, or as a separate process. */
import { endWithThisProcess } from "#processes/endWithParent.ts"
import { exitCodeOf, runControl } from "#cli/control.ts"
import { Environment } from "#cli/environment.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { startServer } from "#support/serverProcess.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { collectProcessOutput } from "#support/collectOutput.ts"
import { NodeServices } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Sink, Stdio } from "effect"
import { spawn } from "node:child_process"
import { resolve } from "node:path"
import { formatWithOptions } from "node:util"

export interface Ran {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Checks the output for secrets. The output of `create` may contain the API key that was created, once. */
const watch = (args: ReadonlyArray<string>, { stderr, stdout }: Ran): void => {
  collectProcessOutput(`control ${args.slice(0, 2).join(" ")}`, stdout, args[1] === "create")
  collectProcessOutput(`control ${args.slice(0, 2).join(" ")}`, stderr)
}

/** Runs `control` inside the test process. It sees only the environment variables of `env`. */
export const runIn = (env: Record<string, string>) => (...args: ReadonlyArray<string>): Effect.Effect<Ran> =>
  Effect.suspend(() => {
    const printed = { stdout: "", stderr: "" }
    const append = (stream: keyof typeof printed) => (...values: ReadonlyArray<unknown>) => {
      printed[stream] += `${formatWithOptions({ colors: false }, ...values)}\n`
    }
    const captured = { ...console, log: append("stdout"), info: append("stdout"), error: append("stderr") }
    const stdout = Sink.forEach((chunk: string | Uint8Array) =>
      Effect.sync(() => {
        printed.stdout += typeof chunk === "string" ? chunk : new TextDecoder().decode(chunk)
      })
    )
    return runControl(args).pipe(
      Effect.provide(Layer.provideMerge(Stdio.layerTest({ stdout: () => stdout }), NodeServices.layer)),
      Effect.provideService(Console.Console, captured),
      Effect.provideService(Environment, env),
      Effect.exit,
      Effect.map((exit) => {
        const ran = { code: exitCodeOf(exit), ...printed }
        watch(args, ran)
        return ran
      })
    )
  })

/** Runs `bin/control.mjs` as a separate process. Slow (about 1 s); only for tests that depend on the process. */
export const runProcessIn = (
  env: Record<string, string>,
  options: { readonly cwd?: string; readonly uid?: number; readonly gid?: number } = {}
) =>
(...args: ReadonlyArray<string>): Effect.Effect<Ran> =>
  Effect.callback((resume) => {
    const child = spawn(process.execPath, [resolve("bin/control.mjs"), ...args], {
      env: { PATH: process.env["PATH"], ...env },
      stdio: ["ignore", "pipe", "pipe"],
      ...options
    })
    endWithThisProcess(child)
    let stdout = ""
    let stderr = ""
    child.stdout.on("data", (data) => stdout += String(data))
    child.stderr.on("data", (data) => stderr += String(data))
    child.once("close", (code) => {
      const ran = { code, stdout, stderr }
      watch(args, ran)
      resume(Effect.succeed(ran))
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** One server for all tests of a file. Commands read its admin token from the data directory, as on the server's machine. */
export class SharedServer extends Context.Service<SharedServer, {
  readonly apiUrl: string
  readonly wsPort: number
  readonly dataDir: string
  /** The environment of a command on the server's machine. */
  readonly env: Record<string, string>
  readonly control: ReturnType<typeof runIn>
}>()("test/cli/SharedServer") {
  static readonly layer = Layer.effect(
    SharedServer,
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const { apiUrl, wsPort } = yield* startServer({
        CONTROL_DATA_DIR: dataDir,
        DATABASE_URL: (yield* newDatabase).url
      })
      const env = { CONTROL_DATA_DIR: dataDir }
      return { apiUrl, wsPort, dataDir, env, control: runIn(env) }
    })
  )
}
