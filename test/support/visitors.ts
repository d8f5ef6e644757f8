/** Visitors of the demo: one asks for a page again and again, others use a chat, a game and a voice server. */
import { createSocket } from "node:dgram"
import { once } from "node:events"
import { Agent, request } from "node:https"
import { connect } from "node:net"
import { connect as connectTls } from "node:tls"
import { WebSocket } from "ws"

/** What the visitor saw in one period. */
export interface Seen {
  readonly requests: number
  readonly failed: number
  /** Milliseconds from the start of the period until the first right answer, and the longest time without one. */
  readonly firstMillis: number | undefined
  readonly longestGapMillis: number
}

const pauseMillis = 10
const patienceMillis = 3_000

/** Asks for `https://NAME/` without a pause, as long as it runs. */
export class Visitor {
  readonly #agent: Agent
  readonly #name: string
  readonly #port: number
  #seen = { requests: 0, failed: 0, firstMillis: undefined as number | undefined, longestGapMillis: 0 }
  #expected = ""
  #started = 0
  #lastGood = 0
  #isRunning = true

  constructor(name: string, port: number, authority: string) {
    this.#name = name
    this.#port = port
    this.#agent = new Agent({ ca: authority, keepAlive: true, maxSockets: 4 })
    void this.#run()
  }

  /** Begins a new period, in which this is the right answer. */
  expect(answer: string): void {
    this.#expected = answer
    this.#started = performance.now()
    this.#lastGood = this.#started
    this.#seen = { requests: 0, failed: 0, firstMillis: undefined, longestGapMillis: 0 }
  }

  /** Waits for this number of right answers in the period. */
  async good(count: number): Promise<Seen> {
    while (this.#seen.requests - this.#seen.failed < count) {
      await new Promise((resolve) => setTimeout(resolve, pauseMillis))
    }
    return this.#seen
  }

  stop(): void {
    this.#isRunning = false
    this.#agent.destroy()
  }

  async #run(): Promise<void> {
    while (this.#isRunning) {
      const answer = await this.#ask().catch(() => undefined)
      const now = performance.now()
      this.#seen.requests += 1
      if (answer === this.#expected) {
        this.#seen.firstMillis ??= now - this.#started
        this.#seen.longestGapMillis = Math.max(this.#seen.longestGapMillis, now - this.#lastGood)
        this.#lastGood = now
      } else this.#seen.failed += 1
      await new Promise((resolve) => setTimeout(resolve, pauseMillis))
    }
  }

  #ask(): Promise<string> {
    return new Promise((resolve, reject) => {
      const sent = request({
        host: "127.0.0.1",
        port: this.#port,
        servername: this.#name,
        headers: { host: this.#name },
        agent: this.#agent,
        timeout: patienceMillis
      }, (response) => {
        let text = ""
        response.on("data", (chunk: Buffer) => void (text += String(chunk)))
        response.once("end", () => resolve(text)).once("error", reject)
      })
      sent.once("timeout", () => sent.destroy(new Error("no answer")))
      sent.once("error", reject).end()
    })
  }
}

/** Sends a word through a WebSocket and returns the answer. */
export const chat = async (name: string, port: number, authority: string, word: string): Promise<string> => {
  const socket = new WebSocket(`wss://${name}/`, {
    createConnection: () => connectTls({ host: "127.0.0.1", port, servername: name, ca: authority })
  })
  await once(socket, "open")
  socket.send(word)
  const [answer] = await once(socket, "message")
  socket.terminate()
  return String(answer)
}

export const play = async (port: number, word: string): Promise<string> => {
  const socket = connect({ host: "127.0.0.1", port })
  socket.write(word)
  const [answer] = await once(socket, "data")
  socket.destroy()
  return String(answer)
}

export const speak = async (port: number, word: string): Promise<string> => {
  const socket = createSocket("udp4")
  socket.send(word, port, "127.0.0.1")
  const [answer] = await once(socket, "message")
  socket.close()
  return String(answer)
}
