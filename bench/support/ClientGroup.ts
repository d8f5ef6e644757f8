/** Clients that connect, listen and send heartbeats together. */
import { now, sleep } from "./clock.ts"
import { clientFrame, LeanClient, type Listener, type Target } from "./LeanClient.ts"
import { quantile } from "./quantiles.ts"
import { Receipts, type Spread } from "./ReceiptLog.ts"
import { type Place, V1 } from "./ControlV1State.ts"

export interface Opening {
  readonly port: number
  readonly type: "agent" | "gateway"
  readonly apiKeys: ReadonlyArray<string>
  /** How many may wait for the answer to their upgrade at a time: a listen backlog that overflows would measure TCP's retries. */
  readonly window: number
  readonly timeoutMillis: number
  /** Set for clients of `control.v1`. */
  readonly v1?: OpeningV1
}

export interface OpeningV1 {
  /** Whether they acknowledge every step. */
  readonly acks: boolean
  /** They go on from where they were when the group was closed, and have missed this many steps, all of them together. */
  readonly missed?: number
}

export interface Opened {
  /** Clients that have their config, or have been told that they go on from where they were. */
  readonly ready: number
  readonly resumed: number
  /** What the sockets have received, the answers to their upgrades included. */
  readonly bytes: number
  /** Steps that have come meanwhile. */
  readonly steps: number
  /** Why the others have not, by how many. */
  readonly failures: Readonly<Record<string, number>>
  /** From the first connect to the last config, or the last step that was missed. */
  readonly millis: number
  /** From a client's own connect to its config. */
  readonly p50: number
  readonly p99: number
  readonly configBytes: number
  /** The first client's config. */
  readonly sample: string
}

export interface Awaited {
  /** Every client has got as many steps as it was to get, and no more. */
  readonly complete: boolean
  readonly expected: number
  readonly spread: Spread
  /** Steps that did not come right after their predecessor. */
  readonly disordered: number
  /** Configs that came instead of steps. */
  readonly configs: number
  /** Connections lost. */
  readonly lost: number
}

export interface Beaten {
  readonly sent: number
  readonly millis: number
}

export class Group implements Listener {
  readonly clients: Array<LeanClient> = []
  readonly #receipts = new Receipts()
  readonly #failures: Record<string, number> = {}
  readonly #waits: Array<number> = []
  #upgrading = 0
  #ready = 0
  #lost = 0
  #configs = 0
  #configBytes = 0
  #lastReadyAt = 0
  #resumed = 0
  /** By key, of clients that have gone. */
  readonly #places = new Map<string, Place>()
  #stepsEach = Infinity
  #done = 0
  /** Steps that clients which are coming back have missed. */
  #missed = Infinity
  #changed: () => void = () => {}
  #allowing: NodeJS.Timeout | undefined

  async open({ apiKeys, port, timeoutMillis, type, v1, window }: Opening): Promise<Opened> {
    const startedAt = now()
    const before = this.clients.length
    this.#missed = v1?.missed ?? Infinity
    this.#resumed = 0
    this.#receipts.clear()
    const settled = () => this.#ready + this.#lost
    const wanted = settled() + apiKeys.length
    for (const [index, apiKey] of apiKeys.entries()) {
      await this.#until(() => this.#upgrading < window, startedAt + timeoutMillis)
      this.#upgrading += 1
      const target: Target = {
        host: "127.0.0.1",
        port,
        localAddress: localAddress(index),
        type,
        apiKey,
        ...(v1 && { v1: new V1(v1.missed === undefined ? undefined : this.#places.get(apiKey), v1.acks) })
      }
      const client = new LeanClient(target, this)
      client.keepConfig = index === 0
      client.startedAt = now()
      this.clients.push(client)
    }
    await this.#until(
      () => settled() === wanted && this.#receipts.count >= (v1?.missed ?? 0),
      startedAt + timeoutMillis
    )
    this.#missed = Infinity
    const [first] = this.clients
    if (first !== undefined) first.keepConfig = false
    const waits = this.#waits.splice(0)
    return {
      ready: waits.length,
      resumed: this.#resumed,
      bytes: this.clients.slice(before).reduce((sum, client) => sum + client.bytes, 0),
      steps: this.#receipts.count,
      failures: { ...this.#failures },
      millis: Math.max(this.#lastReadyAt, this.#receipts.count === 0 ? 0 : this.#receipts.spread(0).last) - startedAt,
      p50: quantile(waits, 0.5),
      p99: quantile(waits, 0.99),
      configBytes: this.#configBytes,
      sample: first?.configText ?? ""
    }
  }

  /** From now on each client is to get this many steps, the first of which has the number after `after`. */
  expect(stepsEach: number, after: number): void {
    this.#receipts.clear()
    this.#stepsEach = stepsEach
    this.#done = 0
    this.#configs = 0
    this.#lost = 0
    for (const client of this.clients) {
      client.received = 0
      client.disordered = 0
      client.lastSequence = after
    }
  }

  /** Waits for what is expected; times are in milliseconds after `since`. */
  async received(since: number, timeoutMillis: number): Promise<Awaited> {
    await this.#until(() => this.#done === this.clients.length, now() + timeoutMillis)
    return {
      complete: this.clients.every((client) => client.received === this.#stepsEach),
      expected: this.#stepsEach * this.clients.length,
      spread: this.#receipts.spread(since),
      disordered: this.clients.reduce((sum, client) => sum + client.disordered, 0),
      configs: this.#configs,
      lost: this.#lost
    }
  }

  /** Heartbeats at an even rate over all clients in turn, each one a write of its own. */
  async beat(perSecond: number, seconds: number): Promise<Beaten> {
    const startedAt = now()
    const endsAt = startedAt + seconds * 1_000
    let sent = 0
    while (true) {
      const at = now()
      const due = Math.floor((Math.min(at, endsAt) - startedAt) * perSecond / 1_000)
      // After a pause of this process the rest is not made up for in one go: it would be a burst that nobody asked for.
      const most = Math.min(due, sent + Math.ceil(perSecond / 20))
      const frame = clientFrame(1, `{"type":"heartbeat","data":{"timestamp":${Date.now()}}}`)
      for (; sent < most; sent += 1) this.clients[sent % this.clients.length]?.send(frame)
      if (at >= endsAt) return { sent, millis: at - startedAt }
      await sleep(2)
    }
  }

  /** Whether they acknowledge every step from now on; gives back how many acknowledgements there were so far. */
  acknowledge(isWanted: boolean): number {
    let acked = 0
    for (const { v1 } of this.clients) {
      if (v1 === undefined) continue
      v1.acks = isWanted
      acked += v1.acked
    }
    return acked
  }

  /** From now on each of them reads this much at most, until they are closed. */
  slow(bytesPerSecond: number): void {
    const allow = () => {
      for (const client of this.clients) client.allow(bytesPerSecond)
    }
    allow()
    clearInterval(this.#allowing)
    this.#allowing = setInterval(allow, 1_000)
  }

  close(): void {
    clearInterval(this.#allowing)
    for (const client of this.clients.splice(0)) {
      if (client.v1 !== undefined) this.#places.set(client.apiKey, client.v1.place)
      client.cut()
    }
    for (const reason of Object.keys(this.#failures)) delete this.#failures[reason]
    this.#ready = 0
    this.#lost = 0
  }

  upgraded(): void {
    this.#upgrading -= 1
    this.#changed()
  }

  config(client: LeanClient, bytes: number): void {
    this.#configBytes = bytes
    if (client.startedAt === 0) {
      this.#configs += 1
      return
    }
    this.#enter(client)
  }

  resumed(client: LeanClient): void {
    this.#resumed += 1
    this.#enter(client)
  }

  steps(client: LeanClient, count: number): void {
    this.#receipts.add(now(), count)
    if (this.#receipts.count >= this.#missed) this.#changed()
    if (client.received < this.#stepsEach || client.received - count >= this.#stepsEach) return
    this.#done += 1
    if (this.#done === this.clients.length) this.#changed()
  }

  closed(client: LeanClient, reason: string): void {
    if (!this.clients.includes(client)) return
    this.#lost += 1
    if (client.startedAt !== 0) this.#upgrading = Math.max(0, this.#upgrading - 1)
    this.#failures[reason] = (this.#failures[reason] ?? 0) + 1
    this.#changed()
  }

  #enter(client: LeanClient): void {
    this.#lastReadyAt = now()
    this.#waits.push(this.#lastReadyAt - client.startedAt)
    client.startedAt = 0
    this.#ready += 1
    this.#changed()
  }

  /** Returns when the condition holds or the deadline has passed. */
  async #until(condition: () => boolean, deadline: number): Promise<void> {
    while (!condition() && now() < deadline) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(1_000, Math.max(0, deadline - now())))
        this.#changed = () => {
          if (!condition()) return
          clearTimeout(timer)
          resolve()
        }
      })
      this.#changed = () => {}
    }
  }
}

/** On Linux all of 127.0.0.0/8 is there, so that thousands of clients do not come from one address. */
function localAddress(index: number): string | undefined {
  return process.platform === "linux" ? `127.0.0.${2 + index % 16}` : undefined
}
