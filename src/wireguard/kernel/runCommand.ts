/** Runs a system command with a time limit and bounded output. */
import { type ChildProcess, spawn } from "node:child_process"

const commandTimeoutMillis = 10_000
const maxOutputBytes = 8 * 1024 * 1024

/** The tools need no variable of this program, which can hold secrets. Their folders are missing in the PATH of some accounts. */
export const toolEnvironment = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C"
}

/** A command has failed. The message names the command and the reason that it gave. */
export class CommandError extends Error {
  /** `ENOENT` if the command does not exist, `EADDRINUSE` if a port is in use. */
  readonly code: string | undefined

  constructor(message: string, code?: string) {
    super(message)
    this.code = code
  }
}

/** Resolves with the standard output. `input` goes to the standard input, where no other account can read it. */
export const runCommand = (
  command: string,
  args: ReadonlyArray<string>,
  input = "",
  timeoutMillis = commandTimeoutMillis
): Promise<string> =>
  new Promise((resolve, reject) => {
    // Node's pipes are sockets, which `wg` and `nft` cannot open as /dev/stdin.
    const [program, words] = input === ""
      ? [command, args]
      : ["/bin/sh", ["-c", "cat | \"$0\" \"$@\"", command, ...args]] as const
    // A separate process group, so that the time limit ends the command, too, and not only the shell.
    const child = spawn(program, words, {
      stdio: "pipe",
      timeout: timeoutMillis,
      killSignal: "SIGKILL",
      detached: true,
      env: toolEnvironment
    })
    // The arguments contain no secret, because keys go through the standard input.
    const what = `${command} ${args.slice(0, 3).join(" ")}`.trimEnd()
    const output = { stdout: "", stderr: "" }
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => {
        if (output[name].length < maxOutputBytes) output[name] += text
      })
    }
    child.once("error", (error: NodeJS.ErrnoException) => reject(startError(command, error)))
    child.once("exit", (_code, signal) => {
      if (signal === null) return
      endGroup(child)
      reject(new CommandError(`${what}: ended by ${signal}; a command may take ${timeoutMillis} ms`))
    })
    child.once("close", (code) => {
      if (code === 0) return resolve(output.stdout)
      const reason = output.stderr.trim().split("\n")[0] || `exit code ${code}`
      // A shell reports a missing command in this way.
      if (code === 127 && input !== "") return reject(startError(command, { code: "ENOENT", message: reason }))
      reject(new CommandError(`${what}: ${reason}`, /address already in use/iu.test(reason) ? "EADDRINUSE" : undefined))
    })
    child.stdin.on("error", () => {})
    child.stdin.end(input)
  })

const startError = (command: string, { code, message }: Pick<NodeJS.ErrnoException, "code" | "message">) =>
  code === "ENOENT"
    ? new CommandError(`the command ${command} is missing; install it, or use --device userspace`, "ENOENT")
    : new CommandError(`cannot run ${command}: ${message}`, code)

/** The shell has ended, but the processes of its pipeline can hold the pipes open. */
function endGroup({ pid, stdio }: ChildProcess): void {
  for (const stream of stdio) stream?.destroy()
  try {
    if (pid !== undefined) process.kill(-pid, "SIGKILL")
  } catch {
    // The group has ended already.
  }
}
