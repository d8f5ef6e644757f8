/**
 * One agent or gateway, as a process of its own, written from protocol.md alone: it is told a URL, a type and a key, and
 * knows nothing else of the network than what Control says. It reports what it receives to the process that started it.
 */
import { WebSocket } from "ws"

/** What the client is told from outside. The key comes this way, since arguments of a process are there for all to read. */
export type Order =
  | { readonly kind: "connect"; readonly url: string; readonly type: "agent" | "gateway"; readonly apiKey: string }
  | { readonly kind: "say"; readonly message: Message }
  | { readonly kind: "show" }

/** `at` is `process.hrtime.bigint()`: nanoseconds of the machine's one monotonic clock, comparable between processes. */
export type Report =
  | { readonly kind: "message"; readonly at: bigint; readonly text: string }
  | { readonly kind: "closed"; readonly at: bigint; readonly code: number; readonly reason: string }
  | { readonly kind: "view"; readonly view: View | undefined; readonly heartbeats: number }

export interface Message {
  readonly type: string
  readonly data: Readonly<Record<string, unknown>>
}

/** All that the client knows: `own` is its own part, `peers` are the gateways of an agent or the agents of a gateway. */
export interface View {
  readonly own: Readonly<Record<string, unknown>>
  readonly peers: ReadonlyArray<unknown>
  readonly tunnels: ReadonlyMap<string, Readonly<Record<string, unknown>>>
  readonly certificates: ReadonlyArray<unknown>
}

/** A third of the heartbeat timeout or less; the demo's server has one of 3 seconds. */
const heartbeatMillis = 750

/** After these the same key would fare no better, or would fight with a newer session. */
const finalCodes = new Set([4400, 4401, 4403, 4409, 4410])

let socket: WebSocket | undefined
let view: View | undefined
let heartbeats = 0

const report = (message: Report): void => {
  process.send?.(message)
}

const say = (message: Message): void => socket?.send(JSON.stringify(message))

const connect = (order: Extract<Order, { kind: "connect" }>, attempt: number): void => {
  const current = new WebSocket(`${order.url}/?type=${order.type}`)
  socket = current
  let beating: NodeJS.Timeout | undefined

  current.on("open", () => say({ type: "auth", data: { apiKey: order.apiKey } }))
  current.on("message", (data) => {
    const at = process.hrtime.bigint()
    const text = String(data)
    const message: Message = JSON.parse(text)
    view = next(view, message)
    report({ kind: "message", at, text })
    if (message.type === "auth_success") {
      beating = setInterval(() => {
        say({ type: "heartbeat", data: { timestamp: Date.now() } })
        heartbeats += 1
      }, heartbeatMillis)
    }
  })
  // A close follows, and says all that matters.
  current.on("error", () => {})
  current.on("close", (code, reason) => {
    report({ kind: "closed", at: process.hrtime.bigint(), code, reason: String(reason) })
    clearInterval(beating)
    if (finalCodes.has(code)) return
    const attempts = beating === undefined ? attempt + 1 : 0
    setTimeout(() => connect(order, attempts), Math.random() * Math.min(60_000, 1000 * 2 ** attempts))
  })
}

/** The view after a message. Types that this client does not know change nothing. */
const next = (before: View | undefined, { type, data }: Message): View | undefined => {
  if (type === "config") return whole(data)
  if (before === undefined || typeof data["id"] !== "string") return before
  if (type === "tunnel_create" || type === "tunnel_update") {
    return { ...before, tunnels: new Map(before.tunnels).set(data["id"], data) }
  }
  if (type !== "tunnel_delete") return before
  const tunnels = new Map(before.tunnels)
  tunnels.delete(data["id"])
  return { ...before, tunnels }
}

const whole = (data: Message["data"]): View => ({
  own: asObject(data["agent"] ?? data["gateway"]),
  peers: asList(data["gateways"] ?? data["agents"]),
  tunnels: new Map(asList(data["tunnels"]).map(asObject).map((tunnel) => [String(tunnel["id"]), tunnel])),
  certificates: asList(data["certificates"] ?? [])
})

const asList = (value: unknown): ReadonlyArray<unknown> => Array.isArray(value) ? value : []
const asObject = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null ? { ...value } : {}

process.on("message", (order: Order) => {
  if (order.kind === "connect") connect(order, 0)
  else if (order.kind === "say") say(order.message)
  else report({ kind: "view", view, heartbeats })
})

// It ends with the process that started it, however that ends.
process.on("disconnect", () => process.exit())
