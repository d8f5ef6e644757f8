/** RFC 6455, by the cases of the Autobahn test suite: the options and the socket of the real server, and an echo behind them. */
import { webSocketOptions } from "#connection/Listener.ts"
import { WsSocket } from "#connection/WsSocket.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { createServer } from "node:http"
import { type AddressInfo, connect } from "node:net"
import { afterAll, beforeAll } from "vitest"
import { WebSocketServer } from "ws"
import { type Case, cases } from "./autobahn.ts"
import { frame, opcodes, type Received, takeFrames, upgradeRequest } from "./frames.ts"
import { limitCases, maxPayload } from "./limits.ts"
import { utf8Cases } from "./utf8.ts"

const server = createServer()
const wss = new WebSocketServer(webSocketOptions(maxPayload))
server.on("upgrade", (request, raw, head) => {
  raw.on("error", () => raw.destroy())
  wss.handleUpgrade(request, raw, head, (ws) => {
    const socket = new WsSocket(ws, raw, { perSecond: Infinity, burst: Infinity })
    ws.on("message", (data, isBinary) => ws.send(data, { binary: isBinary }))
    Effect.runFork(Effect.ignore(Effect.forever(socket.receive)))
  })
})
beforeAll(() => new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve)))
afterAll(() => void server.close())

/** Everything that comes back until the server ends the connection. */
const converse = ({ chop, sent }: Case): Promise<ReadonlyArray<Received>> =>
  new Promise((resolve) => {
    const socket = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", noDelay: true })
    let came = Buffer.alloc(0)
    // The first message of a connection is `auth`, which is never long: what comes after it may be.
    socket.write(upgradeRequest())
    socket.once("data", () => socket.write(frame("auth")))
    socket.once("data", () => {
      for (const part of sent) {
        const size = chop ?? (part.length || 1)
        for (let at = 0; at < part.length; at += size) socket.write(part.subarray(at, at + size))
      }
    })
    socket.on("data", (data) => came = Buffer.concat([came, data]))
    socket.on("error", () => {})
    socket.on("end", () => socket.end())
    socket.on("close", () => resolve(takeFrames(came.subarray(came.indexOf("\r\n\r\n") + 4)).frames.slice(1)))
  })

describe.each([["framing to closing", cases], ["UTF-8", utf8Cases], ["limits", limitCases]] as const)(
  "Autobahn's cases: %s",
  (_name, list) => {
    it.concurrent.each(list.map((each) => [each.id, each.title, each] as const))(
      "%s %s",
      async (_id, _title, asked) => {
        const frames = await converse(asked)
        for (const each of frames) assert.isTrue(each.fin && each.rsv === 0)
        const last = frames.at(-1)
        assert.strictEqual(last?.opcode, opcodes.close)
        assert.include(asked.closes, last?.payload.length === 0 ? undefined : last?.payload.readUInt16BE(0))
        const before = frames.slice(0, -1)
        assert.deepStrictEqual(before.map(({ opcode }) => opcode), asked.echoed.map(([opcode]) => opcode))
        for (const [index, [, payload]] of asked.echoed.entries()) {
          assert.isTrue(before[index]?.payload.equals(payload), `message ${index}`)
        }
      }
    )
  }
)
