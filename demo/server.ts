/** The server under demonstration: `node src/server/main.ts` as a process of its own, and its HTTP API. */
import { Effect, Schema } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"
import { event } from "./print.ts"

/** The demo could not go on; the reason is for people. */
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

/** How long any one step may go without an answer. */
export const patience = "10 seconds"

/** The first start makes a database, which on a slow machine is no matter of a few seconds. */
const startPatience = "30 seconds"

const promise = <A>(run: (signal: AbortSignal) => Promise<A>) =>
  Effect.tryPromise({ try: run, catch: (error) => new DemoFailed({ reason: messageOf(error) }) })

/** `fetch` says only in the cause what happened. */
const messageOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  return error.cause === undefined ? error.message : `${error.message} (${messageOf(error.cause)})`
}

export const within = <A, R>(
  what: string,
  effect: Effect.Effect<A, DemoFailed, R>,
  duration: `${number} seconds` = patience
) =>
  Effect.timeoutOrElse(effect, {
    duration,
    orElse: () => Effect.fail(new DemoFailed({ reason: `${what}: no answer within ${duration}` }))
  })

/** Removed when the scope ends. */
export const temporaryDirectory = Effect.acquireRelease(
  promise(() => mkdtemp(join(tmpdir(), "control-demo-"))),
  (path) => Effect.ignore(promise(() => rm(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })))
)

/** Starts a server on free ports with an embedded database; stopped when the scope ends, and its database with it. */
export const startServer = Effect.fn("startServer")(function*(dataDir: string) {
  const child = yield* Effect.acquireRelease(Effect.sync(() => spawnServer(dataDir)), (child) => stop(child, dataDir))
  const { wsPort, apiPort } = yield* within("starting the server", promise(() => announcement(child)), startPatience)
  child.once("exit", (code, signal) => event(undefined, "server", "process ended", signal ?? `exit code ${code}`))
  const adminToken = yield* promise(() => readFile(join(dataDir, "admin-token"), "utf8"))
  return {
    wsUrl: `ws://127.0.0.1:${wsPort}`,
    apiUrl: `http://127.0.0.1:${apiPort}`,
    adminToken: adminToken.trim(),
    dataDir
  } satisfies Server
})

/** The settings are the demo's own: it must never touch a database that the environment happens to name. */
const spawnServer = (dataDir: string): ChildProcess => {
  const own = Object.entries(process.env).filter(([name]) => !/^(?:CONTROL_|DATABASE_URL)/u.test(name))
  return spawn(process.execPath, [join(import.meta.dirname, "..", "src", "server", "main.ts")], {
    cwd: dataDir,
    env: {
      ...Object.fromEntries(own),
      CONTROL_DATA_DIR: dataDir,
      CONTROL_WS_HOST: "127.0.0.1",
      CONTROL_WS_PORT: "0",
      CONTROL_API_PORT: "0",
      CONTROL_HEARTBEAT_INTERVAL: "250 millis",
      CONTROL_HEARTBEAT_TIMEOUT: "3 seconds",
      CONTROL_LOG_FORMAT: "json"
    },
    stdio: ["ignore", "pipe", "pipe"],
    // A Ctrl-C is for the demo, which then stops the server; a second signal would cut its shutdown short.
    detached: true
  })
}

/** Port 0 asks the system for a free port, and the server's one line says which it got. */
const announcement = (child: ChildProcess) =>
  new Promise<{ readonly wsPort: string; readonly apiPort: string }>((resolve, reject) => {
    const { stdout, stderr } = child
    if (stdout === null || stderr === null) return reject(new Error("the server has no output"))
    createInterface(stdout).on("line", (text) => {
      const [, wsPort, apiPort] = /ws:\/\/[^\s"]*:(\d+).*http:\/\/[^\s"]*:(\d+)/u.exec(text) ?? []
      if (wsPort !== undefined && apiPort !== undefined) resolve({ wsPort, apiPort })
      else if (/"level":"(?:WARN|ERROR|FATAL)"/u.test(text)) event(undefined, "server", "says", text)
    })
    const complaints: Array<string> = []
    createInterface(stderr).on("line", (text) => complaints.push(text))
    child.once("error", reject)
    child.once("close", () => reject(new Error(`the server ended before it served: ${complaints.join(" ")}`)))
  })

const stop = Effect.fnUntraced(function*(child: ChildProcess, dataDir: string) {
  if (child.pid === undefined) return
  // From here on its end is no news.
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
  // A server that had to be killed has left its database running; the data directory says which process that is.
  const database = Number((yield* postmaster(dataDir))[0])
  if (database > 0) yield* Effect.ignore(promise(async () => process.kill(database, "SIGQUIT")))
})

/** PostgreSQL's own account of itself, line by line; empty when it does not run. */
const postmaster = (dataDir: string) =>
  promise(() => readFile(join(dataDir, "postgres", "postmaster.pid"), "utf8")).pipe(
    Effect.map((text) => text.split("\n")),
    Effect.orElseSucceed((): Array<string> => [])
  )

/** Where `psql --host=…` would find the embedded database. */
export const databaseSocket = (dataDir: string) =>
  Effect.map(postmaster(dataDir), (lines) => resolve(dataDir, "postgres", lines[4]?.trim() ?? ""))

export interface Answer {
  readonly status: number
  // eslint-disable-next-line typescript/no-explicit-any
  readonly body: any
}

export type Operator = ReturnType<typeof operator>

/** The HTTP API, as an operator uses it. Whatever is refused fails. */
export const operator = ({ apiUrl, adminToken }: Pick<Server, "apiUrl" | "adminToken">) => {
  const ask = (method: string, path: string, body?: object): Effect.Effect<Answer, DemoFailed> =>
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
        if (!response.ok) throw new Error(`${method} ${path} was answered ${response.status}: ${text}`)
        return { status: response.status, body: text === "" ? undefined : JSON.parse(text) }
      })
    )
  return {
    get: (path: string) => ask("GET", path),
    post: (path: string, body: object = {}) => ask("POST", path, body),
    put: (path: string, body: object) => ask("PUT", path, body),
    patch: (path: string, body: object) => ask("PATCH", path, body),
    delete: (path: string) => ask("DELETE", path)
  }
}
