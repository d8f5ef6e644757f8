/** Process of the client under test, with its exit and the end of its standard error. */
import { endWithThisProcess } from "#processes/endWithParent.ts"
import { type ChildProcess, spawn } from "node:child_process"

export interface Client {
  readonly child: ChildProcess
  /** Description of the exit for people, or of the failed start. */
  readonly ended: Promise<string>
  hasEnded: boolean
  /** Last part of the standard error. */
  stderr: string
}

const maxStderrLength = 2_000

/** Time that the exit may take to be reported after the end of the process's connection. */
const graceMillis = 200

export const startClient = ([program = "", ...args]: ReadonlyArray<string>, env: NodeJS.ProcessEnv): Client => {
  const child = spawn(program, args, { env, stdio: ["ignore", "ignore", "pipe"] })
  endWithThisProcess(child)
  const { promise: ended, resolve } = Promise.withResolvers<string>()
  const end = (how: string): void => {
    client.hasEnded = true
    resolve(how)
  }
  const client: Client = { child, ended, hasEnded: false, stderr: "" }
  child.stderr.on("data", (data) => client.stderr = `${client.stderr}${String(data)}`.slice(-maxStderrLength))
  child.once("error", (error) => end(`the command could not be started: ${error.message}`))
  // `exit` and not `close`, because child processes may hold the standard error open.
  child.once("exit", (code, signal) => end(code === null ? `killed by ${signal}` : `exit code ${code}`))
  return client
}

/** Details of the process for a failure message: its exit, if it has exited, and its standard error. */
export const describeProcess = async (client: Client): Promise<string> => {
  // The exit may be reported after the end of the connection, and the standard error after the exit.
  const { promise: grace, resolve } = Promise.withResolvers<void>()
  setTimeout(resolve, graceMillis)
  await grace
  const end = client.hasEnded ? `; the process has ended: ${await client.ended}` : ""
  const lines = client.stderr.trim().split("\n").map((line) => `\n          ${line}`).join("")
  return `${end}${lines.trim() === "" ? "" : `; standard error:${lines}`}`
}

export const kill = async ({ child, ended }: Client): Promise<void> => {
  child.kill("SIGKILL")
  await ended
}
