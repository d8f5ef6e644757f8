/** The client under test as a process: its end, and what it said last on its standard error. */
import { type ChildProcess, spawn } from "node:child_process"

export interface Client {
  readonly child: ChildProcess
  /** How it ended, for people: also when it could not be started. */
  readonly ended: Promise<string>
  hasEnded: boolean
  /** The end of its standard error. */
  stderr: string
}

const longest = 2_000

/** How long an end may take to be known after the connection that it has cut. */
const graceMillis = 200

export const startClient = ([program = "", ...args]: ReadonlyArray<string>, env: NodeJS.ProcessEnv): Client => {
  const child = spawn(program, args, { env, stdio: ["ignore", "ignore", "pipe"] })
  const { promise: ended, resolve } = Promise.withResolvers<string>()
  const end = (how: string): void => {
    client.hasEnded = true
    resolve(how)
  }
  const client: Client = { child, ended, hasEnded: false, stderr: "" }
  child.stderr.on("data", (data) => client.stderr = `${client.stderr}${String(data)}`.slice(-longest))
  child.once("error", (error) => end(`it could not be started: ${error.message}`))
  // Not `close`: its children may hold its standard error open.
  child.once("exit", (code, signal) => end(code === null ? `it was ended by ${signal}` : `exit code ${code}`))
  return client
}

/** What the process itself has to say to a failure: its end, if it has ended, and its standard error, if there is any. */
export const toldBy = async (client: Client): Promise<string> => {
  // Its standard error may be read later than its end is known, and its end later than that of its connection.
  const { promise: grace, resolve } = Promise.withResolvers<void>()
  setTimeout(resolve, graceMillis)
  await grace
  const end = client.hasEnded ? `; it has ended: ${await client.ended}` : ""
  const lines = client.stderr.trim().split("\n").map((line) => `\n          ${line}`).join("")
  return `${end}${lines.trim() === "" ? "" : `; its standard error:${lines}`}`
}

export const kill = async ({ child, ended }: Client): Promise<void> => {
  child.kill("SIGKILL")
  await ended
}
