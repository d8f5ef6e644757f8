/** Runs a system command with a time limit and bounded output. */
import { spawn } from "node:child_process"

const timeoutMillis = 10_000
const maxOutputBytes = 8 * 1024 * 1024

/** A command has failed. The message names the command and the reason that it gave. */
export class CommandError extends Error {
  /** `ENOENT` if the command does not exist. */
  readonly code: string | undefined

  constructor(message: string, code?: string) {
    super(message)
    this.code = code
  }
}

/** Resolves with the standard output. `input` goes to the standard input, where no other account can read it. */
export const runCommand = (command: string, args: ReadonlyArray<string>, input = ""): Promise<string> =>
  new Promise((resolve, reject) => {
    // Node's pipes are sockets, which `wg` and `nft` cannot open as /dev/stdin.
    const child = input === ""
      ? spawn(command, args, { stdio: "pipe", timeout: timeoutMillis })
      : spawn("/bin/sh", ["-c", "cat | \"$0\" \"$@\"", command, ...args], { stdio: "pipe", timeout: timeoutMillis })
    const output = { stdout: "", stderr: "" }
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => {
        if (output[name].length < maxOutputBytes) output[name] += text
      })
    }
    child.once("error", (error: NodeJS.ErrnoException) =>
      reject(
        error.code === "ENOENT"
          ? new CommandError(`the command ${command} is missing; install it, or use --device userspace`, "ENOENT")
          : new CommandError(`cannot run ${command}: ${error.message}`, error.code)
      ))
    child.once("close", (code, signal) => {
      if (code === 0) return resolve(output.stdout)
      const reason = output.stderr.trim().split("\n")[0] ||
        (signal === null ? `exit code ${code}` : `ended by ${signal}`)
      // The arguments contain no secret: keys go through standard input.
      reject(new CommandError(`${command} ${args.slice(0, 3).join(" ")}: ${reason}`))
    })
    child.stdin.on("error", () => {})
    child.stdin.end(input)
  })
