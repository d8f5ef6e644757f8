/** All clients of a test cluster, with the events that they observed. */
import { now } from "#bench/support/timing.ts"
import { requireWithin } from "./waitUntil.ts"
import { Random } from "#simulation/Random.ts"
import type { Message } from "#support/TestClient.ts"
import { type Account, type ClientObserver, FaultClient } from "./FaultClient.ts"

export interface Close {
  readonly at: number
  readonly client: FaultClient
  readonly code: number
}

export class ClientFleet implements ClientObserver {
  readonly clients: ReadonlyArray<FaultClient>
  /** Closes since the last `reset`, as for the fields below. */
  closes: Array<Close> = []
  authentications: Array<{ readonly at: number; readonly resumed: boolean }> = []
  configs = 0
  heartbeatMillis: Array<number> = []
  /** Time at which the last client received each tunnel target. */
  readonly receivedAt = new Map<string, number>()

  constructor(accounts: ReadonlyArray<Account>, targets: ReadonlyArray<number>, seed: number) {
    this.clients = accounts.map((account, index) => new FaultClient(account, targets, Random.of(seed, index + 1), this))
  }

  get runningClients(): ReadonlyArray<FaultClient> {
    return this.clients.filter(({ isStopped }) => !isStopped)
  }

  async connectAll(): Promise<void> {
    for (const client of this.clients) client.start()
    await requireWithin("all clients have their views", 60_000, () => this.isFullyConnected)
  }

  get isFullyConnected(): boolean {
    return this.runningClients.every(({ hasCurrentView: isCurrent, isReady }) => isReady && isCurrent)
  }

  reset(): void {
    this.closes = []
    this.authentications = []
    this.configs = 0
    this.heartbeatMillis = []
    this.receivedAt.clear()
  }

  /** Closes by code, such as `1012 ×3`. */
  closesByCode(closes: ReadonlyArray<Close> = this.closes): string {
    const counts = new Map<number, number>()
    for (const { code } of closes) counts.set(code, (counts.get(code) ?? 0) + 1)
    return [...counts].map(([code, count]) => `${code} ×${count}`).join(", ") || "none"
  }

  async disconnectAll(): Promise<void> {
    for (const client of this.clients) client.stop()
    await requireWithin("all clients have disconnected", 10_000, () => this.clients.every(({ ws }) => ws === undefined))
      .catch(
        () => {
          for (const { ws } of this.clients) ws?.terminate()
        }
      )
  }

  viewMessage(_client: FaultClient, { data, type }: Message): void {
    if (type === "config") this.configs += 1
    if (type === "config") return
    const target: unknown = data["target"]
    if (typeof target === "string" && target.length < 64) this.receivedAt.set(target, now())
  }

  heartbeatAnswered(_client: FaultClient, millis: number): void {
    this.heartbeatMillis.push(millis)
  }

  authenticated(_client: FaultClient, resumed: boolean): void {
    this.authentications.push({ at: now(), resumed })
  }

  closed(client: FaultClient, code: number): void {
    this.closes.push({ at: now(), client, code })
  }
}
