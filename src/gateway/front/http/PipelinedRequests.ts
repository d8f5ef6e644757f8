/** Requests of HTTP/1 connections that wait for the response to an earlier request. */
import type { ServerResponse } from "node:http"
import type { Socket } from "node:net"

export class PipelinedRequests {
  readonly #maximum: number
  readonly #waiting = new WeakMap<Socket, number>()

  /** `maximum` is for one connection. */
  constructor(maximum: number) {
    this.#maximum = maximum
  }

  /** Returns false, and closes the connection, if too many requests wait already. Its responses then close, too. */
  add(socket: Socket, response: ServerResponse): boolean {
    const waiting = this.#waiting.get(socket) ?? 0
    if (waiting >= this.#maximum) {
      socket.destroy()
      return false
    }
    this.#waiting.set(socket, waiting + 1)
    response.once("socket", () => this.#waiting.set(socket, (this.#waiting.get(socket) ?? 1) - 1))
    return true
  }
}
