/** An echo server with the options and the socket of Control, and a check of RFC 6455 cases against it. */
import { webSocketOptions } from "#connection/Listener.ts"
import { WsSocket } from "#connection/WsSocket.ts"
import { Effect } from "effect"
import assert from "node:assert/strict"
import { createServer } from "node:http"
import { type AddressInfo, connect } from "node:net"
import { WebSocketServer } from "ws"
import type { RfcCase } from "./autobahnCases.ts"
import { frame, opcodes, parseFrames, type Received, upgradeRequest } from "./frames.ts"
import { maxPayload } from "./sizeLimitCases.ts"

/** Connections at a time, so that the runs of many cases do not exceed the listen backlog. */
const maxConcurrentCases = 16

export interface EchoServer {
  readonly port: number
  /** Sends the frames of a case, and throws an `AssertionError` unless the server answers as the case requires. */
  readonly check: (rfcCase: RfcCase) => Promise<void>
  readonly close: () => void
}

/** Starts the server on a free port. */
export const startEchoServer = async (): Promise<EchoServer> => {
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
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as AddressInfo
  return {
    port,
    check: async (rfcCase) => assertConforms(rfcCase, await exchange(port, rfcCase)),
    close: () => void server.close()
  }
}

/** Checks all cases, and returns a description of each failed one. */
export const failedCases = async (cases: ReadonlyArray<RfcCase>): Promise<ReadonlyArray<string>> => {
  const server = await startEchoServer()
  const failures: Array<string> = []
  const remaining = [...cases]
  const worker = async () => {
    for (let next = remaining.shift(); next !== undefined; next = remaining.shift()) {
      const { id, title } = next
      await server.check(next).catch((error: unknown) => failures.push(`${id} ${title}: ${String(error)}`))
    }
  }
  await Promise.all(Array.from({ length: maxConcurrentCases }, worker))
  server.close()
  return failures
}

/** Returns every frame that the server sends until it ends the connection. */
const exchange = (port: number, { chunkBytes, sent }: RfcCase): Promise<ReadonlyArray<Received>> =>
  new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true })
    let received = Buffer.alloc(0)
    // Control limits the first message, `auth`, to 8 KiB, so a short message comes before those of the case.
    socket.write(upgradeRequest())
    socket.once("data", () => socket.write(frame("auth")))
    socket.once("data", () => {
      for (const part of sent) {
        const size = chunkBytes ?? (part.length || 1)
        for (let at = 0; at < part.length; at += size) socket.write(part.subarray(at, at + size))
      }
    })
    socket.on("data", (data) => received = Buffer.concat([received, data]))
    socket.on("error", () => {})
    socket.on("end", () => socket.end())
    socket.on(
      "close",
      () => resolve(parseFrames(received.subarray(received.indexOf("\r\n\r\n") + 4)).frames.slice(1))
    )
  })

function assertConforms({ closeCodes, echoed }: RfcCase, frames: ReadonlyArray<Received>): void {
  for (const { fin, rsv } of frames) assert.ok(fin && rsv === 0)
  const last = frames.at(-1)
  assert.equal(last?.opcode, opcodes.close)
  const closeCode = last?.payload.length === 0 ? undefined : last?.payload.readUInt16BE(0)
  assert.ok(closeCodes.includes(closeCode), `closed with ${closeCode}, expected ${closeCodes.join(" or ")}`)
  const before = frames.slice(0, -1)
  assert.deepEqual(before.map(({ opcode }) => opcode), echoed.map(([opcode]) => opcode))
  for (const [index, [, payload]] of echoed.entries()) {
    assert.ok(before[index]?.payload.equals(payload), `payload of message ${index}`)
  }
}
