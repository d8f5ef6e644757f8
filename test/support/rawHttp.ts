/** HTTP requests as raw bytes, for requests that no HTTP client sends. */
import { Effect } from "effect"
import { connect, type Socket } from "node:net"
import { collectResponse } from "./collectOutput.ts"

export interface RawResponse {
  /** 0 if the connection ended without a response. */
  readonly status: number
  readonly head: string
  readonly body: string
}

/** Sends the lines unchanged and returns the response when the connection ends. The request must make the server close it. */
export const sendRequest = (port: number, ...lines: ReadonlyArray<string>): Effect.Effect<RawResponse> =>
  Effect.promise(() => {
    const socket = connect(port, "127.0.0.1", () => socket.write(lines.join("\r\n")))
    return readResponse(socket)
  })

/** Reads the response until the connection ends. */
export const readResponse = (socket: Socket): Promise<RawResponse> =>
  new Promise((done) => {
    let response = ""
    socket.setEncoding("utf8").on("data", (text) => {
      response += text
      // An upgraded connection does not end by itself.
      if (response.startsWith("HTTP/1.1 101")) socket.destroy()
    })
    socket.on("error", () => {})
    socket.on("close", () => {
      collectResponse("a raw request", 0, response, "")
      const [head = "", body = ""] = response.split("\r\n\r\n", 2)
      done({ status: Number(/^HTTP\/1\.1 (\d{3})/u.exec(head)?.[1] ?? 0), head: head.toLowerCase(), body })
    })
  })

/** Sends a complete GET request with `Connection: close`. */
export const sendGet = (port: number, path: string, headers: Readonly<Record<string, string>> = {}) =>
  sendRequest(
    port,
    `GET ${path} HTTP/1.1`,
    ...headerLines({ Host: `127.0.0.1:${port}`, Connection: "close", ...headers })
  )

/** Sends an upgrade request like a browser; `headers` override single headers. */
export const sendUpgrade = (port: number, headers: Readonly<Record<string, string>> = {}, path = "/") =>
  sendRequest(
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
