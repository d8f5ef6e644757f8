/** Starts Control as a separate process with settings from the environment. */
import { endWithThisProcess } from "#processes/endWithParent.ts"
import { Effect, type Scope } from "effect"
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"
import { type SecretKind, secretScanner } from "./SecretScanner.ts"
import { collectProcessOutput } from "./collectOutput.ts"

export interface ServerProcess {
  readonly pid: number
  readonly wsPort: number
  readonly apiUrl: string
  readonly signal: (name: NodeJS.Signals) => void
  /** Exit code, or the name of the signal that ended the process. */
  readonly exited: Promise<number | string>
  /** Everything that the process has printed. */
  readonly output: () => string
}

/** Starts Control and returns at once. The process is killed when the scope ends. `openFiles`: limit of file descriptors. */
export const spawnServer = (
  env: Record<string, string>,
  openFiles?: number,
  entryPoint = "src/server/main.ts"
): Effect.Effect<
  Omit<ServerProcess, "wsPort" | "apiUrl"> & { readonly serving: Promise<ServerProcess> },
  never,
  Scope.Scope
> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const main = [process.execPath, resolve(entryPoint)]
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
      endWithThisProcess(child)
      let printed = ""
      const exited = new Promise<number | string>((done) =>
        child.once("exit", (code, signal) => done(code ?? signal ?? "unknown"))
      )
      child.once("close", () => collectProcessOutput("a server", printed))
      const base = {
        pid: child.pid ?? 0,
        signal: (name: NodeJS.Signals) => void child.kill(name),
        exited,
        output: () => printed
      }
      child.stderr.on("data", (data) => printed += String(data))
      const serving = new Promise<ServerProcess>((done, fail) => {
        createInterface({ input: child.stdout }).on("line", (line) => {
          printed += `${line}\n`
          const ports = /wss?:\/\/\S+:(\d+) and operators on (https?:\/\/\S+:\d+)/u.exec(line)
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

/** Starts Control and waits until it serves clients. */
export const startServer = (env: Record<string, string>, openFiles?: number) =>
  Effect.flatMap(spawnServer(env, openFiles), ({ serving }) => Effect.promise(() => serving))

/** As `startServer`, with `fastIntervals`. */
export const startFastServer = (env: Record<string, string>) =>
  Effect.flatMap(
    spawnServer(env, undefined, "test/support/fastMain.ts"),
    ({ serving }) => Effect.promise(() => serving)
  )

/** Reads the admin token that a server has generated, and adds it and the master key to the secret scanner. */
export const readAdminToken = (dataDir: string) =>
  Effect.promise(async () => {
    const read = async (file: string, kind: SecretKind) => {
      const secret = (await readFile(join(dataDir, file), "utf8")).trim()
      secretScanner.addSecret(kind, secret)
      return secret
    }
    if (existsSync(join(dataDir, "master-key"))) await read("master-key", "master key")
    return await read("admin-token", "admin token")
  })
