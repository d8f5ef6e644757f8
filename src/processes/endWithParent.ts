/** Lets child processes end with this process, and this process with its parent. */
import { type ChildProcess, spawn } from "node:child_process"

/**
 * Sends `signal` to the child when this process ends, whatever ends this process. A shell waits for the end of a pipe, because
 * after SIGKILL no code of this process runs. SIGCONT follows, because a stopped process handles no other signal.
 *
 * `account`: the account of the child; the shell then can send signals to no process of another account.
 */
export const endWithThisProcess = (
  child: ChildProcess,
  signal: NodeJS.Signals = "SIGKILL",
  account: { readonly uid?: number; readonly gid?: number } = {}
): void => {
  if (child.pid === undefined) return
  const watchdog = spawn("/bin/sh", ["-c", watch, "sh", signal.slice("SIG".length), String(child.pid)], {
    ...account,
    cwd: "/",
    env: {},
    stdio: ["pipe", "ignore", "ignore"],
    // Ctrl-C in the terminal must not end the watchdog before this process.
    detached: true
  })
  watchdog.on("error", () => {})
  watchdog.stdin.on("error", () => {})
  watchdog.unref()
  if ("unref" in watchdog.stdin && typeof watchdog.stdin.unref === "function") watchdog.stdin.unref()
  // The process id can be reused from now on, so the watchdog must not use it.
  child.once("exit", () => watchdog.stdin.end("ended\n"))
}

const watch = `trap "" HUP INT TERM; read -r ended || { kill -s "$1" "$2"; kill -s CONT "$2"; }`

/** Stops this process with SIGTERM when its parent ends, if the parent has started it with an IPC channel. */
export const stopWithParent = (): void => {
  if (!process.connected) return
  process.once("disconnect", () => process.kill(process.pid, "SIGTERM"))
  process.channel?.unref()
}
