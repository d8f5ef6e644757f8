/** One valid client of each level and type, which attacks on the server must not disturb. */
import { WebSocket } from "ws"

interface ServerMessage {
  readonly type: string
  readonly data?: { readonly target?: string; readonly tunnels?: ReadonlyArray<{ readonly target: string }> }
}

const changeTimeoutMillis = 20_000

class WellBehavedClient {
  readonly #ws: WebSocket
  readonly #name: string
  readonly ready: Promise<void>
  /** The first disturbance; undefined if there was none. */
  fault: string | undefined
  heartbeatAcks = 0
  #expected = new Map<string, () => void>()

  constructor(port: number, type: "agent" | "gateway", isV1: boolean, apiKey: string) {
    this.#name = `${isV1 ? "control.v1" : "plain"} ${type}`
    this.#ws = new WebSocket(`ws://127.0.0.1:${port}/?type=${type}`, isV1 ? ["control.v1"] : [])
    const { promise, resolve } = Promise.withResolvers<void>()
    this.ready = promise
    this.#ws.on("open", () => this.#send({ type: "auth", data: { apiKey } }))
    this.#ws.on("message", (data) => {
      const { data: content, type } = JSON.parse(String(data)) as ServerMessage
      if (type === "config") resolve()
      if (type === "heartbeat_ack") this.heartbeatAcks += 1
      if (type === "error") this.fault ??= `${this.#name} received ${String(data)}`
      for (const target of [content?.target, ...content?.tunnels?.map((tunnel) => tunnel.target) ?? []]) {
        if (target !== undefined) this.#expected.get(target)?.()
      }
    })
    this.#ws.on("error", ({ message }) => this.fault ??= `${this.#name}: ${message}`)
    this.#ws.on("close", (code) => this.fault ??= `${this.#name} was closed with ${code}`)
  }

  sendHeartbeat(): void {
    this.#send({ type: "heartbeat", data: { timestamp: 1 } })
  }

  /** Resolves when the change has arrived, and records a fault after 20 s. */
  awaitChange(target: string): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timeout)
        this.#expected.delete(target)
        resolve()
      }
      const timeout = setTimeout(() => {
        this.fault ??= `${this.#name} did not receive ${target}`
        done()
      }, changeTimeoutMillis)
      this.#expected.set(target, done)
    })
  }

  terminate(): void {
    this.#ws.removeAllListeners("close")
    this.#ws.terminate()
  }

  #send(message: object): void {
    if (this.#ws.readyState === WebSocket.OPEN) this.#ws.send(JSON.stringify(message))
  }
}

export interface WellBehavedClientsOptions {
  readonly port: number
  readonly agentKeys: readonly [plain: string, v1: string]
  readonly gatewayKeys: readonly [plain: string, v1: string]
  /** Sets the target of both agents' tunnels. */
  readonly change: (target: string) => Promise<unknown>
}

/** Makes a change about once per second, awaits it on every client, and sends heartbeats, until `end` returns the result. */
export const runWellBehavedClients = async ({ agentKeys, change, gatewayKeys, port }: WellBehavedClientsOptions) => {
  const all = [
    new WellBehavedClient(port, "agent", false, agentKeys[0]),
    new WellBehavedClient(port, "agent", true, agentKeys[1]),
    new WellBehavedClient(port, "gateway", false, gatewayKeys[0]),
    new WellBehavedClient(port, "gateway", true, gatewayKeys[1])
  ]
  await Promise.all(all.map((each) => each.ready))
  const stopping = new AbortController()
  let changes = 0
  const fault = () => all.find((each) => each.fault !== undefined)?.fault
  const loop = (async () => {
    while (!stopping.signal.aborted && fault() === undefined) {
      changes += 1
      const received = all.map((each) => each.awaitChange(`target:${1_000 + changes}`))
      await change(`target:${1_000 + changes}`)
      await Promise.all(received)
      for (const each of all) each.sendHeartbeat()
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
  })()
  return {
    fault,
    end: async () => {
      stopping.abort()
      await loop
      const heartbeatAcks = Math.min(...all.filter((_each, index) => index % 2 === 1).map((each) => each.heartbeatAcks))
      for (const each of all) each.terminate()
      return { changes, heartbeatAcks, fault: fault() }
    }
  }
}
