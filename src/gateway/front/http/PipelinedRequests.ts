/** Requests of HTTP/1 connections that wait for the response to an earlier request. */
import type { ServerResponse } from "node:http"
import type { Socket } from "node:net"

export class PipelinedRequests {
  readonly #maximum: number
  readonly #waiting = new WeakMap<Socket, Set<ServerResponse>>()

  /** `maximum` is for one connection. */
  constructor(maximum: number) {
    this.#maximum = maximum
  }

  /** Returns false, and closes the connection, if too many requests wait already. */
  add(socket: Socket, response: ServerResponse): boolean {
    const waiting = this.#waiting.get(socket) ?? this.#watch(socket)
    if (waiting.size >= this.#maximum) {
      socket.destroy()
      return false
    }
    waiting.add(response)
    response.once("socket", () => waiting.delete(response))
    return true
  }

  /** Node reports the close of a connection only to the response that is being sent. */
  #watch(socket: Socket): Set<ServerResponse> {
    const waiting = new Set<ServerResponse>()
    this.#waiting.set(socket, waiting)
    socket.once("close", () => {
      for (const response of waiting) response.destroy().emit("close")
    })
    return waiting
  }
}
