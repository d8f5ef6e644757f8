/** WebSocket client that follows protocol.md at either level, and records its view and closes. */
import { reconnectDelay } from "#sdk/reconnectDelay.ts"
import { now } from "#bench/support/timing.ts"
import type { Random } from "#simulation/Random.ts"
import type { Message } from "#support/TestClient.ts"
import { ViewReplica } from "#support/ViewReplica.ts"
import { WebSocket } from "ws"

export interface Account {
  readonly type: "agent" | "gateway"
  readonly id: string
  readonly name: string
  apiKey: string
  readonly level: "plain" | "v1"
}

export interface ClientObserver {
  /** A config or delta has changed the view. */
  viewMessage(client: FaultClient, message: Message): void
  /** A heartbeat was answered after `millis` milliseconds. */
  heartbeatAnswered(client: FaultClient, millis: number): void
  authenticated(client: FaultClient, resumed: boolean): void
  closed(client: FaultClient, code: number): void
}

/** Control's default, until `auth_success` names another interval. */
const defaultIntervalMillis = 2_000
const authTimeoutMillis = 15_000
const ackDelayMillis = 200

export class FaultClient {
  readonly account: Account
  viewer = new ViewReplica()
  /** Protocol violations of the server; must stay empty. */
  readonly protocolErrors: Array<string> = []
  /** The current connection is authenticated. */
  isReady = false
  /** The view is current: a config has arrived on this connection, or the client has resumed. */
  hasCurrentView = false
  isStopped = true
  /** Ports to connect to. The client tries the next one after each lost connection. */
  ports: ReadonlyArray<number>
  /** Number of heartbeat intervals without a frame after which the client closes the connection. */
  maxSilentIntervals = 2.5
  /** Reconnects even after close codes that forbid it, like a misconfigured clone. */
  ignoresFinalCloseCodes = false
  sendsHeartbeats = true
  ws: WebSocket | undefined
  lastError = ""
  readonly #random: Random
  readonly #observer: ClientObserver
  #portIndex = 0
  #attempt = 0
  #drainMillis: number | undefined
  #intervalMillis = defaultIntervalMillis
  #lastReceivedAt = 0
  #heartbeatTimer: NodeJS.Timeout | undefined
  #reconnectTimer: NodeJS.Timeout | undefined
  #ackTimer: NodeJS.Timeout | undefined

  constructor(account: Account, targets: ReadonlyArray<number>, random: Random, observer: ClientObserver) {
    this.account = account
    this.ports = targets
    this.#random = random
    this.#observer = observer
    this.#portIndex = random.int(targets.length)
  }

  start(): void {
    this.isStopped = false
    this.#attempt = 0
    clearTimeout(this.#reconnectTimer)
    if (this.ws === undefined) this.#connect()
  }

  /** Closes the connection and stays away. */
  stop(): void {
    this.isStopped = true
    clearTimeout(this.#reconnectTimer)
    this.ws?.close(1000)
  }

  /** Resets the back-off, as a stable connection would, and reconnects within 500 ms. */
  resetBackOff(): void {
    this.#attempt = 0
    if (this.isStopped || this.ws !== undefined) return
    clearTimeout(this.#reconnectTimer)
    this.#reconnectTimer = setTimeout(() => this.#connect(), this.#random.int(500))
  }

  send(message: object | string): void {
    if (this.ws?.readyState === WebSocket.OPEN)
      this.ws.send(typeof message === "string" ? message : JSON.stringify(message), () => {})
  }

  /** Drops view and position, as a newly installed client. */
  forgetView(): void {
    this.viewer = new ViewReplica()
  }

  get position(): { timeline: string; revision: number } | undefined {
    const { revision, timeline, view } = this.viewer
    return view === undefined || timeline === undefined ? undefined : { timeline, revision }
  }

  #connect(): void {
    const { apiKey, level, type } = this.account
    const port = this.ports[this.#portIndex % this.ports.length] ?? 0
    const ws = new WebSocket(`ws://127.0.0.1:${port}/?type=${type}`, level === "v1" ? ["control.v1"] : [], {
      perMessageDeflate: false
    })
    this.ws = ws
    this.#lastReceivedAt = now()
    this.#drainMillis = undefined
    let code = 1006
    const authTimer = setTimeout(() => ws.terminate(), authTimeoutMillis)
    ws.on("open", () => {
      const resume = level === "v1" ? this.position : undefined
      ws.send(JSON.stringify({ type: "auth", data: { apiKey, ...(resume && { resume }) } }), () => {})
      this.#heartbeatTimer = setInterval(() => this.#heartbeat(), this.#jittered())
    })
    ws.on("message", (data) => {
      this.#lastReceivedAt = now()
      const message: Message = JSON.parse(String(data))
      if (message.type === "auth_success") clearTimeout(authTimer)
      this.#receive(message)
    })
    ws.on("pong", () => this.#lastReceivedAt = now())
    ws.on("ping", () => this.#lastReceivedAt = now())
    ws.on("unexpected-response", (request, response) => {
      code = response.statusCode ?? 1006
      request.destroy()
      ws.terminate()
    })
    ws.on("error", (error) => this.lastError = error.message)
    ws.on("close", (closeCode) => {
      clearTimeout(authTimer)
      this.#closed(ws, code === 1006 ? closeCode : code)
    })
  }

  #closed(ws: WebSocket, code: number): void {
    if (this.ws !== ws) return
    clearInterval(this.#heartbeatTimer)
    clearTimeout(this.#ackTimer)
    this.#ackTimer = undefined
    this.ws = undefined
    this.isReady = false
    this.hasCurrentView = false
    this.#observer.closed(this, code)
    if (this.isStopped) return
    const next = reconnectDelay({
      code: this.ignoresFinalCloseCodes && code >= 4400 ? 1006 : code,
      attempt: this.#attempt++,
      retryAfterMillis: this.#drainMillis,
      random: this.#random.next()
    })
    if (next._tag === "Stop") {
      this.isStopped = true
      return
    }
    this.#portIndex += 1
    this.#reconnectTimer = setTimeout(
      () => this.#connect(),
      this.ignoresFinalCloseCodes ? Math.min(next.millis, 200) : next.millis
    )
  }

  #receive(message: Message): void {
    const { data, type } = message
    switch (type) {
      case "auth_success": {
        this.isReady = true
        const interval = data["heartbeat"]?.intervalMs
        if (typeof interval === "number") this.#intervalMillis = interval
        this.hasCurrentView = data["resumed"] === true
        this.#updateView(message)
        return this.#observer.authenticated(this, this.hasCurrentView)
      }
      case "heartbeat_ack":
        return this.#observer.heartbeatAnswered(this, now() - Number(data["timestamp"]))
      case "drain":
        this.#drainMillis = Number(data["reconnectAfterMs"])
        return
      case "auth_error":
      case "error":
        this.lastError = String(data["code"] ?? data["message"])
        return
      default:
        this.#updateView(message)
    }
  }

  #updateView(message: Message): void {
    try {
      this.viewer.apply(message)
    } catch (error) {
      this.protocolErrors.push(`${this.account.name}: ${error instanceof Error ? error.message : String(error)}`)
    }
    if (message.type === "config") this.hasCurrentView = true
    if (message.type === "auth_success") return
    this.#observer.viewMessage(this, message)
    if (this.account.level === "plain") return
    // One `ack` covers all revisions up to its own, so that a burst of deltas causes one `ack`.
    this.#ackTimer ??= setTimeout(() => {
      this.#ackTimer = undefined
      this.send({ type: "ack", data: { revision: this.viewer.revision } })
    }, ackDelayMillis)
  }

  #heartbeat(): void {
    if (now() - this.#lastReceivedAt > this.maxSilentIntervals * this.#intervalMillis) return this.ws?.terminate()
    if (!this.sendsHeartbeats || !this.isReady) return
    this.send({ type: "heartbeat", data: { timestamp: now() } })
    // At the plain level the server answers pings, but not heartbeats.
    if (this.account.level === "plain" && this.ws?.readyState === WebSocket.OPEN) this.ws.ping()
  }

  #jittered(): number {
    return this.#intervalMillis * (0.9 + this.#random.next() * 0.2)
  }
}
