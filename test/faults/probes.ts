/** Single clients beside the crowd, that try one thing. */
import { now } from "#bench/support/clock.ts"
import { WebSocket } from "ws"
import type { Stage } from "./Stage.ts"

export interface Probed {
  /** `ready`, a close code, or why there was no connection. */
  readonly outcome: string
  readonly millis: number
}

/** Connects with this key, and says how it was answered; the connection is cut then. */
export const tryKey = (
  port: number,
  apiKey: string,
  options: { readonly patienceMillis?: number; readonly keep?: (ws: WebSocket) => void } = {}
): Promise<Probed> => {
  const began = now()
  const ws = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: false })
  return new Promise((resolve) => {
    const done = (outcome: string) => {
      clearTimeout(timer)
      resolve({ outcome, millis: now() - began })
      if (outcome === "ready" && options.keep !== undefined) options.keep(ws)
      else ws.terminate()
    }
    const timer = setTimeout(() => done("no answer"), options.patienceMillis ?? 10_000)
    ws.on("open", () => ws.send(JSON.stringify({ type: "auth", data: { apiKey } })))
    ws.on("message", (data) => {
      if (String(data).startsWith("{\"type\":\"auth_success\"")) done("ready")
    })
    ws.on("error", (error) => done(error.message))
    ws.on("close", (code) => done(String(code)))
  })
}

/** A client that is nobody's session yet is made on the spot the first time, while all is well. */
export const probeAuth = async (stage: Stage, patienceMillis: number, port = stage.node.wsPort): Promise<Probed> => {
  const spare = await spareKey(stage)
  return tryKey(port, spare, { patienceMillis })
}

const spares = new WeakMap<Stage, string>()

/** The key of an agent that is no part of the crowd; its row is part of the network. */
export const spareKey = async (stage: Stage): Promise<string> => {
  const known = spares.get(stage)
  if (known !== undefined) return known
  const { apiKey } = await stage.create("/api/agents", { name: "spare" })
  spares.set(stage, String(apiKey))
  stage.canaries.push({ name: "the key of the spare", text: String(apiKey) })
  return String(apiKey)
}
