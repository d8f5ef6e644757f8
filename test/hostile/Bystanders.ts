/** One well-behaved client of each level and kind, which must not notice what happens beside them. */
import { WebSocket } from "ws"

interface Heard {
  readonly type: string
  readonly data?: { readonly target?: string; readonly tunnels?: ReadonlyArray<{ readonly target: string }> }
}

const patienceMillis = 20_000

class Bystander {
  readonly #ws: WebSocket
  readonly #name: string
  readonly ready: Promise<void>
  /** Why it is not content. */
  complaint: string | undefined
  heartbeats = 0
  #expected = new Map<string, () => void>()

  constructor(port: number, type: "agent" | "gateway", isV1: boolean, apiKey: string) {
    this.#name = `${isV1 ? "control.v1" : "plain"} ${type}`
    this.#ws = new WebSocket(`ws://127.0.0.1:${port}/?type=${type}`, isV1 ? ["control.v1"] : [])
    const { promise, resolve } = Promise.withResolvers<void>()
    this.ready = promise
    this.#ws.on("open", () => this.#say({ type: "auth", data: { apiKey } }))
    this.#ws.on("message", (data) => {
      const { data: content, type } = JSON.parse(String(data)) as Heard
      if (type === "config") resolve()
      if (type === "heartbeat_ack") this.heartbeats += 1
      if (type === "error") this.complaint ??= `${this.#name} was told ${String(data)}`
      for (const target of [content?.target, ...content?.tunnels?.map((tunnel) => tunnel.target) ?? []]) {
        if (target !== undefined) this.#expected.get(target)?.()
      }
    })
    this.#ws.on("error", ({ message }) => this.complaint ??= `${this.#name}: ${message}`)
    this.#ws.on("close", (code) => this.complaint ??= `${this.#name} was closed with ${code}`)
  }

  beat(): void {
    this.#say({ type: "heartbeat", data: { timestamp: 1 } })
  }

  /** Resolves when the change has come; complains when it does not. */
  hear(target: string): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(patience)
        this.#expected.delete(target)
        resolve()
      }
      const patience = setTimeout(() => {
        this.complaint ??= `${this.#name} did not hear of ${target}`
        done()
      }, patienceMillis)
      this.#expected.set(target, done)
    })
  }

  leave(): void {
    this.#ws.removeAllListeners("close")
    this.#ws.terminate()
  }

  #say(message: object): void {
    if (this.#ws.readyState === WebSocket.OPEN) this.#ws.send(JSON.stringify(message))
  }
}

export interface BystandersChoice {
  readonly port: number
  readonly agentKeys: readonly [plain: string, v1: string]
  readonly gatewayKeys: readonly [plain: string, v1: string]
  /** Gives both agents' tunnels this target. */
  readonly change: (target: string) => Promise<unknown>
}

/** They speak and a change is made for them about once a second, until they are asked how it was. */
export const watchBystanders = async ({ agentKeys, change, gatewayKeys, port }: BystandersChoice) => {
  const all = [
    new Bystander(port, "agent", false, agentKeys[0]),
    new Bystander(port, "agent", true, agentKeys[1]),
    new Bystander(port, "gateway", false, gatewayKeys[0]),
    new Bystander(port, "gateway", true, gatewayKeys[1])
  ]
  await Promise.all(all.map((each) => each.ready))
  const over = new AbortController()
  let changes = 0
  const complaint = () => all.find((each) => each.complaint !== undefined)?.complaint
  const lasting = (async () => {
    while (!over.signal.aborted && complaint() === undefined) {
      changes += 1
      const heard = all.map((each) => each.hear(`bystander:${1_000 + changes}`))
      await change(`bystander:${1_000 + changes}`)
      await Promise.all(heard)
      for (const each of all) each.beat()
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
  })()
  return {
    complaint,
    end: async () => {
      over.abort()
      await lasting
      const answered = Math.min(...all.filter((_each, index) => index % 2 === 1).map((each) => each.heartbeats))
      for (const each of all) each.leave()
      return { changes, answered, complaint: complaint() }
    }
  }
}
