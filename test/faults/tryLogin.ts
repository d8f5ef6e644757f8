/** Connects a single client outside the fleet and reports the result of its login. */
import { now } from "#bench/support/timing.ts"
import { WebSocket } from "ws"

export interface LoginResult {
  /** `ready`, a close code, or the connection error. */
  readonly outcome: string
  readonly millis: number
}

/** Connects with this key and reports the server's answer. Ends the connection afterwards, unless `keep` is given. */
export const tryLogin = (
  port: number,
  apiKey: string,
  options: { readonly timeoutMillis?: number; readonly keep?: (ws: WebSocket) => void } = {}
): Promise<LoginResult> => {
  const began = now()
  const ws = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: false })
  return new Promise((resolve) => {
    const finish = (outcome: string) => {
      clearTimeout(timer)
      resolve({ outcome, millis: now() - began })
      if (outcome === "ready" && options.keep !== undefined) options.keep(ws)
      else ws.terminate()
    }
    const timer = setTimeout(() => finish("no answer"), options.timeoutMillis ?? 10_000)
    ws.on("open", () => ws.send(JSON.stringify({ type: "auth", data: { apiKey } })))
    ws.on("message", (data) => {
      if (String(data).startsWith("{\"type\":\"auth_success\"")) finish("ready")
    })
    ws.on("error", (error) => finish(error.message))
    ws.on("close", (code) => finish(String(code)))
  })
}
