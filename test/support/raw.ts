/** Requests as bytes, for what no HTTP client would send. */
import { Effect } from "effect"
import { connect, type Socket } from "node:net"
import { sawAnswer } from "./seen.ts"

export interface RawAnswer {
  /** 0 when the connection was cut without an answer. */
  readonly status: number
  readonly head: string
  readonly body: string
}

/** Sends the lines as they are, and gives the one answer: the request has to ask for the connection's end, or to be refused with it. */
export const ask = (port: number, ...lines: ReadonlyArray<string>): Effect.Effect<RawAnswer> =>
  Effect.promise(() => {
    const socket = connect(port, "127.0.0.1", () => socket.write(lines.join("\r\n")))
    return answerOf(socket)
  })

/** All that the socket is answered until its end. */
export const answerOf = (socket: Socket): Promise<RawAnswer> =>
  new Promise((done) => {
    let answer = ""
    socket.setEncoding("utf8").on("data", (text) => {
      answer += text
      // An upgrade has no end of its own.
      if (answer.startsWith("HTTP/1.1 101")) socket.destroy()
    })
    socket.on("error", () => {})
    socket.on("close", () => {
      sawAnswer("a raw request", 0, answer, "")
      const [head = "", body = ""] = answer.split("\r\n\r\n", 2)
      done({ status: Number(/^HTTP\/1\.1 (\d{3})/u.exec(head)?.[1] ?? 0), head: head.toLowerCase(), body })
    })
  })

/** A whole request without a body that asks for the connection's end. */
export const get = (port: number, path: string, headers: Readonly<Record<string, string>> = {}) =>
  ask(port, `GET ${path} HTTP/1.1`, ...headerLines({ Host: `127.0.0.1:${port}`, Connection: "close", ...headers }))

/** An upgrade as a browser sends it, but for the headers given. */
export const upgrade = (port: number, headers: Readonly<Record<string, string>> = {}, path = "/") =>
  ask(
    port,
    `GET ${path} HTTP/1.1`,
    ...headerLines({
      Host: `127.0.0.1:${port}`,
      Connection: "Upgrade",
      Upgrade: "websocket",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
      ...headers
    })
  )

const headerLines = (headers: Readonly<Record<string, string>>): ReadonlyArray<string> => [
  ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  "",
  ""
]
