/** Group of clients that connect together, count deltas and send heartbeats. */
import { now, sleep } from "./timing.ts"
import { clientFrame, type ClientListener, type ConnectTarget, LeanClient } from "./LeanClient.ts"
import { quantile } from "./quantiles.ts"
import { ReceiptLog, type ReceiptTimes } from "./ReceiptLog.ts"
import { ControlV1State, type Position } from "./ControlV1State.ts"

export interface ConnectOptions {
  readonly port: number
  readonly type: "agent" | "gateway"
  readonly apiKeys: ReadonlyArray<string>
  /** Maximum number of unanswered upgrades. A full listen backlog would measure TCP's retries. */
  readonly maxPendingUpgrades: number
  readonly timeoutMillis: number
  /** Set for clients of `control.v1`. */
  readonly controlV1?: ControlV1Options
}

export interface ControlV1Options {
  /** Whether the clients acknowledge every delta. */
  readonly acknowledge: boolean
  /** If set, the clients resume from their positions at disconnect. The number is the sum of deltas they have missed. */
  readonly missedDeltas?: number
}

export interface ConnectResult {
  /** Number of clients that received their config or resumed. */
  readonly readyClients: number
  readonly resumedClients: number
  /** Bytes that the sockets have received, upgrade responses included. */
  readonly bytes: number
  /** Number of deltas received while connecting. */
  readonly deltas: number
  /** Number of failed clients by reason. */
  readonly failures: Readonly<Record<string, number>>
  /** Milliseconds from the first connect to the last config, or to the last missed delta. */
  readonly millis: number
  /** Milliseconds from a client's connect to its config, as quantiles. */
  readonly p50: number
  readonly p99: number
  readonly configBytes: number
  /** Config of the first client, as JSON text. */
  readonly firstConfig: string
}

export interface DeliveryResult {
  /** Whether every client received exactly the expected number of deltas. */
  readonly isComplete: boolean
  readonly expected: number
  readonly receiptTimes: ReceiptTimes
  /** Number of deltas whose sequence number did not follow the previous one. */
  readonly outOfOrder: number
  /** Number of configs received in place of deltas. */
  readonly configs: number
  readonly lostConnections: number
}

export interface HeartbeatResult {
  readonly sent: number
  readonly millis: number
}

export class ClientGroup implements ClientListener {
  readonly clients: Array<LeanClient> = []
  readonly #receipts = new ReceiptLog()
  readonly #failures: Record<string, number> = {}
  readonly #connectTimes: Array<number> = []
  #pendingUpgrades = 0
  #readyClients = 0
  #lostConnections = 0
  #configs = 0
  #configBytes = 0
  #lastReadyAt = 0
  #resumedClients = 0
  /** Positions of disconnected clients, by API key. */
  readonly #positions = new Map<string, Position>()
  #deltasPerClient = Infinity
  #completeClients = 0
  /** Number of missed deltas that resuming clients must receive. */
  #missedDeltas = Infinity
  #wakeWaiter: () => void = () => {}
  #readRateTimer: NodeJS.Timeout | undefined

  async connect(
    { apiKeys, port, timeoutMillis, type, controlV1, maxPendingUpgrades }: ConnectOptions
  ): Promise<ConnectResult> {
    const startedAt = now()
    const clientsBefore = this.clients.length
    this.#missedDeltas = controlV1?.missedDeltas ?? Infinity
    this.#resumedClients = 0
    this.#receipts.clear()
    const finishedClients = () => this.#readyClients + this.#lostConnections
    const expectedClients = finishedClients() + apiKeys.length
    for (const [index, apiKey] of apiKeys.entries()) {
      await this.#waitUntil(() => this.#pendingUpgrades < maxPendingUpgrades, startedAt + timeoutMillis)
      this.#pendingUpgrades += 1
      const target: ConnectTarget = {
        host: "127.0.0.1",
        port,
        localAddress: localAddress(index),
        type,
        apiKey,
        ...(controlV1 &&
          {
            controlV1: new ControlV1State(
              controlV1.missedDeltas === undefined ? undefined : this.#positions.get(apiKey),
              controlV1.acknowledge
            )
          })
      }
      const client = new LeanClient(target, this)
      client.keepConfig = index === 0
      client.startedAt = now()
      this.clients.push(client)
    }
    await this.#waitUntil(
      () => finishedClients() === expectedClients && this.#receipts.count >= (controlV1?.missedDeltas ?? 0),
      startedAt + timeoutMillis
    )
    this.#missedDeltas = Infinity
    const [first] = this.clients
    if (first !== undefined) first.keepConfig = false
    const connectTimes = this.#connectTimes.splice(0)
    return {
      readyClients: connectTimes.length,
      resumedClients: this.#resumedClients,
      bytes: this.clients.slice(clientsBefore).reduce((sum, client) => sum + client.bytesReceived, 0),
      deltas: this.#receipts.count,
      failures: { ...this.#failures },
      millis: Math.max(this.#lastReadyAt, this.#receipts.count === 0 ? 0 : this.#receipts.times(0).last) - startedAt,
      p50: quantile(connectTimes, 0.5),
      p99: quantile(connectTimes, 0.99),
      configBytes: this.#configBytes,
      firstConfig: first?.configText ?? ""
    }
  }

  /** Resets all counters. From now on each client must receive `deltasPerClient` deltas, numbered from `after + 1`. */
  expectDeltas(deltasPerClient: number, after: number): void {
    this.#receipts.clear()
    this.#deltasPerClient = deltasPerClient
    this.#completeClients = 0
    this.#configs = 0
    this.#lostConnections = 0
    for (const client of this.clients) {
      client.deltaCount = 0
      client.outOfOrder = 0
      client.lastSequence = after
    }
  }

  /** Waits for the expected deltas. Receipt times are in milliseconds after `since`. */
  async waitForDeltas(since: number, timeoutMillis: number): Promise<DeliveryResult> {
    await this.#waitUntil(() => this.#completeClients === this.clients.length, now() + timeoutMillis)
    return {
      isComplete: this.clients.every((client) => client.deltaCount === this.#deltasPerClient),
      expected: this.#deltasPerClient * this.clients.length,
      receiptTimes: this.#receipts.times(since),
      outOfOrder: this.clients.reduce((sum, client) => sum + client.outOfOrder, 0),
      configs: this.#configs,
      lostConnections: this.#lostConnections
    }
  }

  /** Sends heartbeats at an even rate, from one client after the other, with one socket write each. */
  async sendHeartbeats(perSecond: number, seconds: number): Promise<HeartbeatResult> {
    const startedAt = now()
    const endsAt = startedAt + seconds * 1_000
    let sent = 0
    while (true) {
      const at = now()
      const due = Math.floor((Math.min(at, endsAt) - startedAt) * perSecond / 1_000)
      // After a pause of this process, the backlog is spread out, because a burst would distort the measurement.
      const sendLimit = Math.min(due, sent + Math.ceil(perSecond / 20))
      const frame = clientFrame(1, `{"type":"heartbeat","data":{"timestamp":${Date.now()}}}`)
      for (; sent < sendLimit; sent += 1) this.clients[sent % this.clients.length]?.send(frame)
      if (at >= endsAt) return { sent, millis: at - startedAt }
      await sleep(2)
    }
  }

  /** Turns acknowledgements of deltas on or off. Returns the number of acknowledgements so far. */
  setAcknowledging(isWanted: boolean): number {
    let acknowledgements = 0
    for (const { controlV1 } of this.clients) {
      if (controlV1 === undefined) continue
      controlV1.isAcknowledging = isWanted
      acknowledgements += controlV1.acknowledgementCount
    }
    return acknowledgements
  }

  /** Limits the read rate of every client until the group is closed. */
  limitReadRate(bytesPerSecond: number): void {
    const grantReadBytes = () => {
      for (const client of this.clients) client.allowReading(bytesPerSecond)
    }
    grantReadBytes()
    clearInterval(this.#readRateTimer)
    this.#readRateTimer = setInterval(grantReadBytes, 1_000)
  }

  close(): void {
    clearInterval(this.#readRateTimer)
    for (const client of this.clients.splice(0)) {
      if (client.controlV1 !== undefined) this.#positions.set(client.apiKey, client.controlV1.position)
      client.terminate()
    }
    for (const reason of Object.keys(this.#failures)) delete this.#failures[reason]
    this.#readyClients = 0
    this.#lostConnections = 0
  }

  onUpgrade(): void {
    this.#pendingUpgrades -= 1
    this.#wakeWaiter()
  }

  onConfig(client: LeanClient, bytes: number): void {
    this.#configBytes = bytes
    if (client.startedAt === 0) {
      this.#configs += 1
      return
    }
    this.#recordReady(client)
  }

  onResumed(client: LeanClient): void {
    this.#resumedClients += 1
    this.#recordReady(client)
  }

  onDeltas(client: LeanClient, count: number): void {
    this.#receipts.add(now(), count)
    if (this.#receipts.count >= this.#missedDeltas) this.#wakeWaiter()
    if (client.deltaCount < this.#deltasPerClient || client.deltaCount - count >= this.#deltasPerClient) return
    this.#completeClients += 1
    if (this.#completeClients === this.clients.length) this.#wakeWaiter()
  }

  onClose(client: LeanClient, reason: string): void {
    if (!this.clients.includes(client)) return
    this.#lostConnections += 1
    if (client.startedAt !== 0) this.#pendingUpgrades = Math.max(0, this.#pendingUpgrades - 1)
    this.#failures[reason] = (this.#failures[reason] ?? 0) + 1
    this.#wakeWaiter()
  }

  #recordReady(client: LeanClient): void {
    this.#lastReadyAt = now()
    this.#connectTimes.push(this.#lastReadyAt - client.startedAt)
    client.startedAt = 0
    this.#readyClients += 1
    this.#wakeWaiter()
  }

  /** Returns when the condition holds or the deadline has passed. */
  async #waitUntil(condition: () => boolean, deadline: number): Promise<void> {
    while (!condition() && now() < deadline) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(1_000, Math.max(0, deadline - now())))
        this.#wakeWaiter = () => {
          if (!condition()) return
          clearTimeout(timer)
          resolve()
        }
      })
      this.#wakeWaiter = () => {}
    }
  }
}

/** Spreads clients over 16 loopback addresses on Linux, where all of 127.0.0.0/8 is available. */
function localAddress(index: number): string | undefined {
  return process.platform === "linux" ? `127.0.0.${2 + index % 16}` : undefined
}
