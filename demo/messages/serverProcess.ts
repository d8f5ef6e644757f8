/** Starts the demo's server (`node src/server/main.ts`) and calls its HTTP API. */
import { Effect, Schema } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"
import { event } from "./print.ts"

/** The demo has failed; `reason` is printed. */
export class DemoFailed extends Schema.TaggedError<DemoFailed>()("DemoFailed", { reason: Schema.String }) {
  override get message(): string {
    return this.reason
  }
}

export interface Server {
  readonly wsUrl: string
  readonly apiUrl: string
  readonly adminToken: string
  readonly dataDir: string
}

/** Maximum wait for one step. */
export const stepTimeout = "10 seconds"

/** The first start creates a database, which can take longer than 10 s on a slow machine. */
const startTimeout = "30 seconds"

const promise = <A>(run: (signal: AbortSignal) => Promise<A>) =>
  Effect.tryPromise({ try: run, catch: (error) => new DemoFailed({ reason: messageOf(error) }) })

/** Includes the cause, because `fetch` puts the details there. */
const messageOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  return error.cause === undefined ? error.message : `${error.message} (${messageOf(error.cause)})`
}

export const within = <A, R>(
  what: string,
  effect: Effect.Effect<A, DemoFailed, R>,
  duration: `${number} seconds` = stepTimeout
) =>
  Effect.timeoutOrElse(effect, {
    duration,
    orElse: () => Effect.fail(new DemoFailed({ reason: `${what}: no answer within ${duration}` }))
  })

/** A directory that is removed when the scope ends. */
export const temporaryDirectory = Effect.acquireRelease(
  promise(() => mkdtemp(join(tmpdir(), "control-demo-"))),
  (path) => Effect.ignore(promise(() => rm(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })))
)

/** Starts a server on free ports with an embedded database. Both stop when the scope ends. */
export const startServer = Effect.fn("startServer")(function*(dataDir: string) {
  const child = yield* Effect.acquireRelease(Effect.sync(() => spawnServer(dataDir)), (child) => stop(child, dataDir))
  const { wsPort, apiPort } = yield* within("starting the server", promise(() => readPorts(child)), startTimeout)
  child.once("exit", (code, signal) => event(undefined, "server", "process ended", signal ?? `exit code ${code}`))
  const adminToken = yield* promise(() => readFile(join(dataDir, "admin-token"), "utf8"))
  return {
    wsUrl: `ws://127.0.0.1:${wsPort}`,
    apiUrl: `http://127.0.0.1:${apiPort}`,
    adminToken: adminToken.trim(),
    dataDir
  } satisfies Server
})

/** Drops the CONTROL_* and DATABASE_URL variables, so that the demo never touches a database of the environment. */
const spawnServer = (dataDir: string): ChildProcess => {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(?:CONTROL_|DATABASE_URL)/u.test(name))
  return spawn(process.execPath, [join(import.meta.dirname, "../..", "src", "server", "main.ts")], {
    cwd: dataDir,
    env: {
      ...Object.fromEntries(inherited),
      CONTROL_DATA_DIR: dataDir,
      CONTROL_WS_HOST: "127.0.0.1",
      CONTROL_WS_PORT: "0",
      CONTROL_API_PORT: "0",
      CONTROL_HEARTBEAT_INTERVAL: "250 millis",
      CONTROL_HEARTBEAT_TIMEOUT: "3 seconds",
      CONTROL_LOG_FORMAT: "json"
    },
    // The channel ends with the demo, and with the channel the server and its database.
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    // Ctrl-C must reach only the demo, which then stops the server. A second signal would interrupt the shutdown.
    detached: true
  })
}

/** Reads the ports, which the system has chosen, from the server's first log line. */
const readPorts = (child: ChildProcess) =>
  new Promise<{ readonly wsPort: string; readonly apiPort: string }>((resolve, reject) => {
    const { stdout, stderr } = child
    if (stdout === null || stderr === null) return reject(new Error("the server has no output"))
    createInterface(stdout).on("line", (text) => {
      const [, wsPort, apiPort] = /ws:\/\/[^\s"]*:(\d+).*http:\/\/[^\s"]*:(\d+)/u.exec(text) ?? []
      if (wsPort !== undefined && apiPort !== undefined) resolve({ wsPort, apiPort })
      else if (/"level":"(?:WARN|ERROR|FATAL)"/u.test(text)) event(undefined, "server", "log", text)
    })
    const errors: Array<string> = []
    createInterface(stderr).on("line", (text) => errors.push(text))
    child.once("error", reject)
    child.once("close", () => reject(new Error(`the server ended before it was ready: ${errors.join(" ")}`)))
  })

const stop = Effect.fnUntraced(function*(child: ChildProcess, dataDir: string) {
  if (child.pid === undefined) return
  // The end of the server is expected from here on.
  child.removeAllListeners("exit")
  const exited = promise(async () => {
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit")
  })
  child.kill("SIGTERM")
  yield* exited.pipe(
    Effect.timeoutOrElse({
      duration: "12 seconds",
      orElse: () => Effect.andThen(Effect.sync(() => child.kill("SIGKILL")), exited)
    }),
    Effect.ignore
  )
  // A killed server leaves its database running. postmaster.pid in the data directory contains its process id.
  const database = Number((yield* postmaster(dataDir))[0])
  if (database > 0) yield* Effect.ignore(promise(async () => process.kill(database, "SIGQUIT")))
})

/** The lines of postmaster.pid; empty if PostgreSQL is not running. */
const postmaster = (dataDir: string) =>
  promise(() => readFile(join(dataDir, "postgres", "postmaster.pid"), "utf8")).pipe(
    Effect.map((text) => text.split("\n")),
    Effect.orElseSucceed((): Array<string> => [])
  )

/** The directory of the database socket, as for `psql --host=…`. */
export const databaseSocket = (dataDir: string) =>
  Effect.map(postmaster(dataDir), (lines) => resolve(dataDir, "postgres", lines[4]?.trim() ?? ""))

/** The password of the database, as for PGPASSWORD of `psql`. */
export const databasePassword = (dataDir: string) =>
  Effect.map(promise(() => readFile(join(dataDir, "postgres-password"), "utf8")), (text) => text.trim())

export interface Answer {
  readonly status: number
  // eslint-disable-next-line typescript/no-explicit-any
  readonly body: any
}

export type Operator = ReturnType<typeof operator>

/** The HTTP API. Every response outside 2xx is a failure. */
export const operator = ({ apiUrl, adminToken }: Pick<Server, "apiUrl" | "adminToken">) => {
  const request = (method: string, path: string, body?: object): Effect.Effect<Answer, DemoFailed> =>
    within(
      `${method} ${path}`,
      promise(async (signal) => {
        const response = await fetch(`${apiUrl}${path}`, {
          method,
          signal,
          headers: { authorization: `Bearer ${adminToken}`, "content-type": "application/json" },
          ...(body === undefined ? {} : { body: JSON.stringify(body) })
        })
        const text = await response.text()
        if (!response.ok) throw new Error(`${method} ${path} returned ${response.status}: ${text}`)
        return { status: response.status, body: text === "" ? undefined : JSON.parse(text) }
      })
    )
  return {
    get: (path: string) => request("GET", path),
    post: (path: string, body: object = {}) => request("POST", path, body),
    put: (path: string, body: object) => request("PUT", path, body),
    patch: (path: string, body: object) => request("PATCH", path, body),
    delete: (path: string) => request("DELETE", path)
  }
}
