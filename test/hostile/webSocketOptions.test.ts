/** The WebSocket options that Control sets: message size, no compression, valid UTF-8, close codes. The rest is `ws` itself. */
import { assert, describe, it } from "@effect/vitest"
import { connect } from "node:net"
import { afterAll } from "vitest"
import { framingCases } from "./autobahnCases.ts"
import { startEchoServer } from "./echoServer.ts"
import { upgradeRequest } from "./frames.ts"
import { sizeLimitCases } from "./sizeLimitCases.ts"
import { utf8Cases } from "./utf8Cases.ts"

const server = await startEchoServer()
afterAll(() => server.close())

/** Autobahn cases that depend on options of Control. */
const cases = [
  ["a message of exactly the maximum size is delivered as text", "9.1.2"],
  ["a message of exactly the maximum size is delivered as binary", "9.2.2"],
  ["a larger text message closes with 1009 after its header", "9.1.3"],
  ["a larger binary message closes with 1009 after its header", "9.2.3"],
  ["a fragmented message that grows too large closes with 1009", "9.3.6"],
  ["a fragmented message within the maximum size is delivered", "10.1.1"],
  ["a frame with the bit of permessage-deflate (RSV1) closes with 1002", "3.1"],
  ["a text message with invalid UTF-8 closes with 1007", "6.3.1"],
  ["a binary message is delivered as binary", "1.2.2"],
  ["a ping is answered with a pong", "2.4"],
  ["a close with an application code is answered with the same code", "7.7.12"],
  ["a close with an invalid code is answered with 1002", "7.9.1"]
] as const

describe("the WebSocket options of Control", () => {
  for (const [title, id] of cases) {
    it(title, async () => {
      const rfcCase = [...framingCases, ...utf8Cases, ...sizeLimitCases].find((each) => each.id === id)
      await server.check(rfcCase ?? assert.fail(`no case ${id}`))
    })
  }

  it("an offer of permessage-deflate is not accepted", async () => {
    const answer = await new Promise<string>((resolve) => {
      const socket = connect(server.port, "127.0.0.1", () => {
        socket.write(upgradeRequest("/", ["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"]))
      })
      socket.once("data", (data) => {
        resolve(String(data))
        socket.destroy()
      })
    })
    assert.match(answer, /^HTTP\/1\.1 101 /u)
    assert.notMatch(answer, /sec-websocket-extensions/iu)
  })
})
