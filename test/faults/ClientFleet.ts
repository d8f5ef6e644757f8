/** All clients of a stage, and what came of them. */
import { now } from "#bench/support/clock.ts"
import { mustHold } from "./waitUntil.ts"
import { Random } from "#simulation/Random.ts"
import type { Message } from "#support/TestClient.ts"
import { type Account, FaultClient, type Watcher } from "./FaultClient.ts"

export interface Close {
  readonly at: number
  readonly client: FaultClient
  readonly code: number
}

export class Crowd implements Watcher {
  readonly clients: ReadonlyArray<FaultClient>
  /** Since the last `reset`. */
  closes: Array<Close> = []
  readies: Array<{ readonly at: number; readonly resumed: boolean }> = []
  configs = 0
  heartbeats: Array<number> = []
  /** When the last client that is concerned was told of a tunnel's target. */
  readonly receipts = new Map<string, number>()

  constructor(accounts: ReadonlyArray<Account>, targets: ReadonlyArray<number>, seed: number) {
    this.clients = accounts.map((account, index) => new FaultClient(account, targets, Random.of(seed, index + 1), this))
  }

  get live(): ReadonlyArray<FaultClient> {
    return this.clients.filter(({ isStopped }) => !isStopped)
  }

  async enter(): Promise<void> {
    for (const client of this.clients) client.start()
    await mustHold("all clients have their views", 60_000, () => this.isComplete)
  }

  get isComplete(): boolean {
    return this.live.every(({ isCurrent, isReady }) => isReady && isCurrent)
  }

  reset(): void {
    this.closes = []
    this.readies = []
    this.configs = 0
    this.heartbeats = []
    this.receipts.clear()
  }

  /** Closes by code, such as `1012 ×3`. */
  closesByCode(closes: ReadonlyArray<Close> = this.closes): string {
    const counts = new Map<number, number>()
    for (const { code } of closes) counts.set(code, (counts.get(code) ?? 0) + 1)
    return [...counts].map(([code, count]) => `${code} ×${count}`).join(", ") || "none"
  }

  async leave(): Promise<void> {
    for (const client of this.clients) client.stop()
    await mustHold("all clients have left", 10_000, () => this.clients.every(({ ws }) => ws === undefined)).catch(
      () => {
        for (const { ws } of this.clients) ws?.terminate()
      }
    )
  }

  told(_client: FaultClient, { data, type }: Message): void {
    if (type === "config") this.configs += 1
    if (type === "config") return
    const target: unknown = data["target"]
    if (typeof target === "string" && target.length < 64) this.receipts.set(target, now())
  }

  answered(_client: FaultClient, millis: number): void {
    this.heartbeats.push(millis)
  }

  ready(_client: FaultClient, resumed: boolean): void {
    this.readies.push({ at: now(), resumed })
  }

  closed(client: FaultClient, code: number): void {
    this.closes.push({ at: now(), client, code })
  }
}
