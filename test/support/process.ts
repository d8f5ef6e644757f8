/** Control as its users run it: a process of its own, with settings from the environment. */
import { Effect, type Scope } from "effect"
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"
import { canaries, type Kind } from "./canaries.ts"
import { sawOutput } from "./seen.ts"

export interface Running {
  readonly pid: number
  readonly wsPort: number
  readonly apiUrl: string
  readonly signal: (name: NodeJS.Signals) => void
  /** Exit code, or the signal that ended it. */
  readonly exited: Promise<number | string>
  /** Everything that it has printed. */
  readonly output: () => string
}

/** A new directory that is gone, with all in it, when the scope ends. */
export const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "control-process-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

/** Starts Control; gives back without waiting until it serves. Killed when the scope ends. `openFiles` is how many it may have. */
export const launch = (
  env: Record<string, string>,
  openFiles?: number
): Effect.Effect<Omit<Running, "wsPort" | "apiUrl"> & { readonly serving: Promise<Running> }, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const main = [process.execPath, resolve("src/server/main.ts")]
      const limited = openFiles === undefined ? [] : ["/bin/sh", "-c", `ulimit -n ${openFiles}; exec "$@"`, "sh"]
      const [command = "", ...words] = [...limited, ...main]
      const child = spawn(command, words, {
        env: {
          PATH: process.env["PATH"],
          CONTROL_WS_HOST: "127.0.0.1",
          CONTROL_WS_PORT: "0",
          CONTROL_API_PORT: "0",
          CONTROL_LOG_FORMAT: "json",
          ...env
        },
        stdio: ["ignore", "pipe", "pipe"]
      })
      let printed = ""
      const exited = new Promise<number | string>((done) =>
        child.once("exit", (code, signal) => done(code ?? signal ?? "unknown"))
      )
      child.once("close", () => sawOutput("a server", printed))
      const base = {
        pid: child.pid ?? 0,
        signal: (name: NodeJS.Signals) => void child.kill(name),
        exited,
        output: () => printed
      }
      child.stderr.on("data", (data) => printed += String(data))
      const serving = new Promise<Running>((done, fail) => {
        createInterface({ input: child.stdout }).on("line", (line) => {
          printed += `${line}\n`
          const ports = /wss?:\/\/[^:]+:(\d+) and operators on (https?:\/\/[^:]+:\d+)/u.exec(line)
          if (ports !== null) done({ ...base, wsPort: Number(ports[1]), apiUrl: ports[2] ?? "" })
        })
        void exited.then((code) => fail(new Error(`Control ended with ${code} before it served:\n${printed}`)))
      })
      serving.catch(() => {})
      return { ...base, serving }
    }),
    ({ signal, exited }) =>
      Effect.promise(async () => {
        signal("SIGCONT")
        signal("SIGKILL")
        await exited
      })
  )

/** Starts Control and waits until it serves. */
export const start = (env: Record<string, string>, openFiles?: number) =>
  Effect.flatMap(launch(env, openFiles), ({ serving }) => Effect.promise(() => serving))

/** The admin token that a server has generated in its data directory; its master key is watched for, too. */
export const adminTokenIn = (dataDir: string) =>
  Effect.promise(async () => {
    const read = async (file: string, kind: Kind) => {
      const secret = (await readFile(join(dataDir, file), "utf8")).trim()
      canaries.plant(kind, secret)
      return secret
    }
    if (existsSync(join(dataDir, "master-key"))) await read("master-key", "master key")
    return await read("admin-token", "admin token")
  })
