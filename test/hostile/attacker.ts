/** Makes attacks over real sockets, and sees that the server ends each of them. */
import { connect } from "node:net"
import type { Attack } from "./attack.ts"

/** Once its client has ended its half nothing stays open for longer; a failed key is answered after two seconds. */
const patienceMillis = 25_000

/** Who does not end its half at once does it then: half a frame would be waited for, rightly. */
const lingerMillis = 200

export type Outcome = "closed" | "reset" | "left open" | "not accepted"

/** Resolves when the connection has ended, by whichever side. */
const strike = (port: number, attack: Attack): Promise<Outcome> =>
  new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", localAddress: attack.from, noDelay: true })
    let isReset = false
    let isConnected = false
    let step = 0
    const end = (outcome: Outcome) => {
      clearTimeout(patience)
      clearTimeout(lingering)
      socket.destroy()
      resolve(outcome)
    }
    const patience = setTimeout(() => end("left open"), patienceMillis)
    let lingering: NodeJS.Timeout | undefined
    const send = (...parts: ReadonlyArray<Buffer | undefined>) => {
      const bytes = Buffer.concat(parts.filter((part) => part !== undefined))
      if (attack.ends) socket.end(bytes)
      else {
        socket.write(bytes)
        lingering = setTimeout(() => socket.end(), lingerMillis)
      }
    }
    socket.on("connect", () => {
      isConnected = true
      if (attack.isAtOnce) return send(attack.opening, attack.auth, attack.rest)
      socket.write(attack.opening)
    })
    // The first answer is the upgrade's, the second that of `auth`: only their being there counts.
    socket.on("data", () => {
      if (attack.isAtOnce) return
      step += 1
      if (step === 1 && attack.auth !== undefined) socket.write(attack.auth)
      else if (step === (attack.auth === undefined ? 1 : 2)) send(attack.rest)
    })
    // Who has been closed by the other side has nothing more to say.
    socket.on("end", () => socket.end())
    socket.on("error", () => isReset = true)
    socket.on("close", () => end(isReset ? (isConnected ? "reset" : "not accepted") : "closed"))
  })

/** Makes the attacks with these indices, some at a time. */
export const strikeAll = async (
  port: number,
  count: number,
  make: (index: number) => Attack,
  report: (index: number, outcome: Outcome) => void,
  goesOn: () => boolean
): Promise<void> => {
  let next = 0
  const worker = async () => {
    while (next < count && goesOn()) {
      const index = next
      next += 1
      report(index, await strike(port, make(index)))
    }
  }
  await Promise.all(Array.from({ length: 64 }, worker))
}
