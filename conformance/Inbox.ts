/** What has come on one socket and was not looked at yet, with a time for how long to wait. */
import type { WebSocket } from "ws"
import type { Json } from "./pattern.ts"

export type Arrival =
  | { readonly kind: "frame"; readonly frame: Json; readonly at: number }
  | { readonly kind: "unparsable"; readonly text: string; readonly at: number }
  | { readonly kind: "closed"; readonly code: number; readonly reason: string; readonly at: number }

export class Inbox<A> {
  readonly #items: Array<A> = []
  #arrived: (() => void) | undefined

  put(item: A): void {
    this.#items.push(item)
    this.#arrived?.()
  }

  /** Nothing came in time, or before the end that is given: undefined. One waits at a time. */
  async take(millis: number, end?: Promise<unknown>): Promise<A | undefined> {
    if (this.#items.length === 0) await this.#wait(millis, end)
    return this.#items.shift()
  }

  #wait(millis: number, end?: Promise<unknown>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, millis)
    this.#arrived = resolve
    void end?.then(() => resolve())
    return promise.finally(() => {
      clearTimeout(timer)
      this.#arrived = undefined
    })
  }
}

/** Everything that comes on a socket, its close last. */
export const listen = (ws: WebSocket): Inbox<Arrival> => {
  const inbox = new Inbox<Arrival>()
  ws.on("message", (data, isBinary) => inbox.put(isBinary ? unparsable("a binary frame") : parse(String(data))))
  ws.on("close", (code, reason) => inbox.put({ kind: "closed", code, reason: String(reason), at: performance.now() }))
  ws.on("error", () => {})
  return inbox
}

function parse(text: string): Arrival {
  try {
    return { kind: "frame", frame: JSON.parse(text) as Json, at: performance.now() }
  } catch {
    return unparsable(text)
  }
}

function unparsable(text: string): Arrival {
  return { kind: "unparsable", text, at: performance.now() }
}
