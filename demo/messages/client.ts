/**
 * Agent or gateway in its own process, written from protocol.md only. The demo sends a URL, a type and an API key by IPC. The
 * client reports everything that it receives to the demo.
 */
import { readSync } from "node:fs"
import { WebSocket } from "ws"

/** Commands of the demo. The API key comes by IPC, because every local user can read process arguments. */
export type Command =
  | { readonly kind: "connect"; readonly url: string; readonly type: "agent" | "gateway"; readonly apiKey: string }
  | { readonly kind: "send"; readonly message: Message }
  | { readonly kind: "freeze" }
  | { readonly kind: "getView" }

/** `at`: `process.hrtime.bigint()`, in nanoseconds. All processes of a machine share this monotonic clock. */
export type Report =
  | { readonly kind: "message"; readonly at: bigint; readonly text: string }
  | { readonly kind: "closed"; readonly at: bigint; readonly code: number; readonly reason: string }
  | { readonly kind: "view"; readonly view: View | undefined; readonly heartbeats: number }

export interface Message {
  readonly type: string
  readonly data: Readonly<Record<string, unknown>>
}

/** The client's view. `own` is the client itself; `peers` are the gateways of an agent or the agents of a gateway. */
export interface View {
  readonly own: Readonly<Record<string, unknown>>
  readonly peers: ReadonlyArray<unknown>
  readonly tunnels: ReadonlyMap<string, Readonly<Record<string, unknown>>>
  readonly certificates: ReadonlyArray<unknown>
}

/** At most a third of the heartbeat timeout, which is 3 s on the demo's server. */
const heartbeatMillis = 750

/** Codes after which a reconnect with the same key fails again, or would replace a newer session. */
const permanentCloseCodes = new Set([4400, 4401, 4403, 4409, 4410])

let socket: WebSocket | undefined
let view: View | undefined
let heartbeats = 0

const report = (message: Report): void => {
  process.send?.(message)
}

const send = (message: Message): void => socket?.send(JSON.stringify(message))

const connect = (command: Extract<Command, { kind: "connect" }>, attempt: number): void => {
  const current = new WebSocket(`${command.url}/?type=${command.type}`)
  socket = current
  let heartbeatTimer: NodeJS.Timeout | undefined

  current.on("open", () => send({ type: "auth", data: { apiKey: command.apiKey } }))
  current.on("message", (data) => {
    const at = process.hrtime.bigint()
    const text = String(data)
    const message: Message = JSON.parse(text)
    view = applyMessage(view, message)
    report({ kind: "message", at, text })
    if (message.type === "auth_success") {
      heartbeatTimer = setInterval(() => {
        send({ type: "heartbeat", data: { timestamp: Date.now() } })
        heartbeats += 1
      }, heartbeatMillis)
    }
  })
  // A close event follows.
  current.on("error", () => {})
  current.on("close", (code, reason) => {
    report({ kind: "closed", at: process.hrtime.bigint(), code, reason: String(reason) })
    clearInterval(heartbeatTimer)
    if (permanentCloseCodes.has(code)) return
    const attempts = heartbeatTimer === undefined ? attempt + 1 : 0
    setTimeout(() => connect(command, attempts), Math.random() * Math.min(60_000, 1000 * 2 ** attempts))
  })
}

/** Returns the view after a message. Unknown types change nothing. */
const applyMessage = (before: View | undefined, { type, data }: Message): View | undefined => {
  if (type === "config") return viewFromConfig(data)
  if (before === undefined || typeof data["id"] !== "string") return before
  if (type === "tunnel_create" || type === "tunnel_update") {
    return { ...before, tunnels: new Map(before.tunnels).set(data["id"], data) }
  }
  if (type !== "tunnel_delete") return before
  const tunnels = new Map(before.tunnels)
  tunnels.delete(data["id"])
  return { ...before, tunnels }
}

const viewFromConfig = (data: Message["data"]): View => ({
  own: asObject(data["agent"] ?? data["gateway"]),
  peers: asList(data["gateways"] ?? data["agents"]),
  tunnels: new Map(asList(data["tunnels"]).map(asObject).map((tunnel) => [String(tunnel["id"]), tunnel])),
  certificates: asList(data["certificates"] ?? [])
})

const asList = (value: unknown): ReadonlyArray<unknown> => Array.isArray(value) ? value : []
const asObject = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null ? { ...value } : {}

/** Blocks the whole process until the demo writes to its standard input or ends. A stopped process would outlive the demo. */
const freeze = (): void => void readSync(0, Buffer.alloc(1))

process.on("message", (command: Command) => {
  if (command.kind === "connect") connect(command, 0)
  else if (command.kind === "send") send(command.message)
  else if (command.kind === "freeze") freeze()
  else report({ kind: "view", view, heartbeats })
})

// The client ends with the demo, even if the demo is killed.
process.on("disconnect", () => process.exit())
