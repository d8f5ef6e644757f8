/** Queue of received frames that a transcript has not checked yet. */
import type { WebSocket } from "ws"
import type { Json } from "./pattern.ts"

export type Arrival =
  | { readonly kind: "frame"; readonly frame: Json; readonly at: number }
  | { readonly kind: "unparsable"; readonly text: string; readonly at: number }
  | { readonly kind: "closed"; readonly code: number; readonly reason: string; readonly at: number }

export class Inbox<A> {
  readonly #items: Array<A> = []
  #notify: (() => void) | undefined

  push(item: A): void {
    this.#items.push(item)
    this.#notify?.()
  }

  /** The next item; undefined after `millis` or when `end` resolves. Supports one waiting caller at a time. */
  async next(millis: number, end?: Promise<unknown>): Promise<A | undefined> {
    if (this.#items.length === 0) await this.#wait(millis, end)
    return this.#items.shift()
  }

  #wait(millis: number, end?: Promise<unknown>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, millis)
    this.#notify = resolve
    void end?.then(() => resolve())
    return promise.finally(() => {
      clearTimeout(timer)
      this.#notify = undefined
    })
  }
}

/** Everything that a socket receives, with the close as the last item. */
export const listen = (ws: WebSocket): Inbox<Arrival> => {
  const inbox = new Inbox<Arrival>()
  ws.on("message", (data, isBinary) => inbox.push(isBinary ? unparsable("a binary frame") : parse(String(data))))
  ws.on("close", (code, reason) => inbox.push({ kind: "closed", code, reason: String(reason), at: performance.now() }))
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
