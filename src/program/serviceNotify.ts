/** Notifies systemd of a program's state (`Type=notify`), where systemd asks for it by `NOTIFY_SOCKET`. */
import { spawn } from "node:child_process"

/** A state of sd_notify(3). */
export type ServiceState = "READY=1" | "STOPPING=1" | `STATUS=${string}`

/**
 * Node has no Unix datagram sockets, so that `systemd-notify` sends the state; the unit needs `NotifyAccess=all`. Failures have
 * no effect, because the program serves with or without a supervisor.
 */
export const notifyService = (
  environment: Readonly<Record<string, string | undefined>>,
  ...states: ReadonlyArray<ServiceState>
): void => {
  if (!environment["NOTIFY_SOCKET"]) return
  const child = spawn("systemd-notify", [`--pid=${process.pid}`, ...states], {
    stdio: "ignore",
    env: { NOTIFY_SOCKET: environment["NOTIFY_SOCKET"], PATH: environment["PATH"] }
  })
  child.on("error", () => {})
  child.unref()
}
