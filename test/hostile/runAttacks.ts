/** Runs attacks over real sockets and checks that the server ends each connection. */
import { connect } from "node:net"
import type { Attack } from "./attack.ts"

/** Maximum time until a connection ends after its client has half-closed. A failed authentication alone takes 2 s. */
const closeTimeoutMillis = 25_000

/** Delay of the half-close of attacks that do not half-close at once. Without it the server waits for the rest of a frame. */
const halfCloseDelayMillis = 200

export type Outcome = "closed" | "reset" | "left open" | "not accepted"

/** Resolves when either side has ended the connection. */
const runAttack = (port: number, attack: Attack): Promise<Outcome> =>
  new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", localAddress: attack.localAddress, noDelay: true })
    let isReset = false
    let isConnected = false
    let step = 0
    const end = (outcome: Outcome) => {
      clearTimeout(timeout)
      clearTimeout(halfCloseTimer)
      socket.destroy()
      resolve(outcome)
    }
    const timeout = setTimeout(() => end("left open"), closeTimeoutMillis)
    let halfCloseTimer: NodeJS.Timeout | undefined
    const send = (...parts: ReadonlyArray<Buffer | undefined>) => {
      const bytes = Buffer.concat(parts.filter((part) => part !== undefined))
      if (attack.endsAfterSending) socket.end(bytes)
      else {
        socket.write(bytes)
        halfCloseTimer = setTimeout(() => socket.end(), halfCloseDelayMillis)
      }
    }
    socket.on("connect", () => {
      isConnected = true
      if (attack.sendsAtOnce) return send(attack.upgrade, attack.auth, attack.frames)
      socket.write(attack.upgrade)
    })
    // The first data is the response to the upgrade, the second the answer to `auth`. Their content is ignored.
    socket.on("data", () => {
      if (attack.sendsAtOnce) return
      step += 1
      if (step === 1 && attack.auth !== undefined) socket.write(attack.auth)
      else if (step === (attack.auth === undefined ? 1 : 2)) send(attack.frames)
    })
    // The server has closed, so the client closes too.
    socket.on("end", () => socket.end())
    socket.on("error", () => isReset = true)
    socket.on("close", () => end(isReset ? (isConnected ? "reset" : "not accepted") : "closed"))
  })

/** Runs `count` attacks, 64 at a time, until `continues` returns false. */
export const runAttacks = async (
  port: number,
  count: number,
  make: (index: number) => Attack,
  report: (index: number, outcome: Outcome) => void,
  continues: () => boolean
): Promise<void> => {
  let next = 0
  const worker = async () => {
    while (next < count && continues()) {
      const index = next
      next += 1
      report(index, await runAttack(port, make(index)))
    }
  }
  await Promise.all(Array.from({ length: 64 }, worker))
}
