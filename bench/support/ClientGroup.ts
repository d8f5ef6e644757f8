/** Clients that connect, listen and send heartbeats together. */
import { now, sleep } from "./clock.ts"
import { clientFrame, type ClientListener, type ConnectTarget, LeanClient } from "./LeanClient.ts"
import { quantile } from "./quantiles.ts"
import { ReceiptLog, type ReceiptTimes } from "./ReceiptLog.ts"
import { ControlV1State, type Position } from "./ControlV1State.ts"

export interface ConnectOptions {
  readonly port: number
  readonly type: "agent" | "gateway"
  readonly apiKeys: ReadonlyArray<string>
  /** How many may wait for the answer to their upgrade at a time: a listen backlog that overflows would measure TCP's retries. */
  readonly maxPendingUpgrades: number
  readonly timeoutMillis: number
  /** Set for clients of `control.v1`. */
  readonly controlV1?: ControlV1Options
}

export interface ControlV1Options {
  /** Whether they acknowledge every step. */
  readonly acknowledge: boolean
  /** They go on from where they were when the group was closed, and have missed this many steps, all of them together. */
  readonly missedDeltas?: number
}

export interface ConnectResult {
  /** Clients that have their config, or have been told that they go on from where they were. */
  readonly readyClients: number
  readonly resumedClients: number
  /** What the sockets have received, the answers to their upgrades included. */
  readonly bytes: number
  /** Steps that have come meanwhile. */
  readonly deltas: number
  /** Why the others have not, by how many. */
  readonly failures: Readonly<Record<string, number>>
  /** From the first connect to the last config, or the last step that was missed. */
  readonly millis: number
  /** From a client's own connect to its config. */
  readonly p50: number
  readonly p99: number
  readonly configBytes: number
  /** The first client's config. */
  readonly firstConfig: string
}

export interface DeliveryResult {
  /** Every client has got as many steps as it was to get, and no more. */
  readonly isComplete: boolean
  readonly expected: number
  readonly receiptTimes: ReceiptTimes
  /** Steps that did not come right after their predecessor. */
  readonly outOfOrder: number
  /** Configs that came instead of steps. */
  readonly configs: number
  /** Connections lost. */
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
  /** By key, of clients that have gone. */
  readonly #positions = new Map<string, Position>()
  #deltasPerClient = Infinity
  #completeClients = 0
  /** Steps that clients which are coming back have missed. */
  #missedDeltas = Infinity
  #wakeWaiter: () => void = () => {}
  #readRateTimer: NodeJS.Timeout | undefined

  async connect(
    { apiKeys, port, timeoutMillis, type, controlV1: v1, maxPendingUpgrades: window }: ConnectOptions
  ): Promise<ConnectResult> {
    const startedAt = now()
    const clientsBefore = this.clients.length
    this.#missedDeltas = v1?.missedDeltas ?? Infinity
    this.#resumedClients = 0
    this.#receipts.clear()
    const finishedClients = () => this.#readyClients + this.#lostConnections
    const expectedClients = finishedClients() + apiKeys.length
    for (const [index, apiKey] of apiKeys.entries()) {
      await this.#waitUntil(() => this.#pendingUpgrades < window, startedAt + timeoutMillis)
      this.#pendingUpgrades += 1
      const target: ConnectTarget = {
        host: "127.0.0.1",
        port,
        localAddress: localAddress(index),
        type,
        apiKey,
        ...(v1 &&
          {
            controlV1: new ControlV1State(
              v1.missedDeltas === undefined ? undefined : this.#positions.get(apiKey),
              v1.acknowledge
            )
          })
      }
      const client = new LeanClient(target, this)
      client.keepConfig = index === 0
      client.startedAt = now()
      this.clients.push(client)
    }
    await this.#waitUntil(
      () => finishedClients() === expectedClients && this.#receipts.count >= (v1?.missedDeltas ?? 0),
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

  /** From now on each client is to get this many steps, the first of which has the number after `after`. */
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

  /** Waits for what is expected; times are in milliseconds after `since`. */
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

  /** Heartbeats at an even rate over all clients in turn, each one a write of its own. */
  async sendHeartbeats(perSecond: number, seconds: number): Promise<HeartbeatResult> {
    const startedAt = now()
    const endsAt = startedAt + seconds * 1_000
    let sent = 0
    while (true) {
      const at = now()
      const due = Math.floor((Math.min(at, endsAt) - startedAt) * perSecond / 1_000)
      // After a pause of this process the rest is not made up for in one go: it would be a burst that nobody asked for.
      const sendLimit = Math.min(due, sent + Math.ceil(perSecond / 20))
      const frame = clientFrame(1, `{"type":"heartbeat","data":{"timestamp":${Date.now()}}}`)
      for (; sent < sendLimit; sent += 1) this.clients[sent % this.clients.length]?.send(frame)
      if (at >= endsAt) return { sent, millis: at - startedAt }
      await sleep(2)
    }
  }

  /** Whether they acknowledge every step from now on; gives back how many acknowledgements there were so far. */
  setAcknowledging(isWanted: boolean): number {
    let acknowledgements = 0
    for (const { controlV1: v1 } of this.clients) {
      if (v1 === undefined) continue
      v1.isAcknowledging = isWanted
      acknowledgements += v1.acknowledgementCount
    }
    return acknowledgements
  }

  /** From now on each of them reads this much at most, until they are closed. */
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

  upgraded(): void {
    this.#pendingUpgrades -= 1
    this.#wakeWaiter()
  }

  config(client: LeanClient, bytes: number): void {
    this.#configBytes = bytes
    if (client.startedAt === 0) {
      this.#configs += 1
      return
    }
    this.#recordReady(client)
  }

  resumed(client: LeanClient): void {
    this.#resumedClients += 1
    this.#recordReady(client)
  }

  steps(client: LeanClient, count: number): void {
    this.#receipts.add(now(), count)
    if (this.#receipts.count >= this.#missedDeltas) this.#wakeWaiter()
    if (client.deltaCount < this.#deltasPerClient || client.deltaCount - count >= this.#deltasPerClient) return
    this.#completeClients += 1
    if (this.#completeClients === this.clients.length) this.#wakeWaiter()
  }

  closed(client: LeanClient, reason: string): void {
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

/** On Linux all of 127.0.0.0/8 is there, so that thousands of clients do not come from one address. */
function localAddress(index: number): string | undefined {
  return process.platform === "linux" ? `127.0.0.${2 + index % 16}` : undefined
}
