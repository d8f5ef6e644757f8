/** A UDP relay that loses and delays datagrams: SEED LOSS LISTENPORT HOST PORT. The delays reorder them. */
import { seededRandom } from "#support/SeededRandom.ts"
import { createSocket, type Socket } from "node:dgram"

const [seed = "0", loss = "0", listenPort = "0", host = "", port = "0"] = process.argv.slice(2)
const random = seededRandom(Number(seed), 0)
const [minDelayMillis, maxDelayMillis] = [10, 30]
const maxClients = 64

/** By the client's address and port. */
const clients = new Map<string, Socket>()
const counts = { passed: 0, lost: 0 }

const pass = (send: () => void) => {
  if (random.chance(Number(loss))) {
    counts.lost += 1
    return
  }
  counts.passed += 1
  setTimeout(send, minDelayMillis + random.next() * (maxDelayMillis - minDelayMillis))
}

const front = createSocket("udp4")
front.on("message", (payload, from) => {
  const key = `${from.address} ${from.port}`
  const back = clients.get(key) ?? createSocket("udp4")
  if (!clients.has(key)) {
    if (clients.size >= maxClients) return
    clients.set(key, back)
    back.on("error", () => {})
    back.on("message", (answer) => pass(() => front.send(answer, from.port, from.address)))
  }
  pass(() => back.send(payload, Number(port), host))
})
front.bind(Number(listenPort), () => process.stdout.write("relaying\n"))

process.on("SIGTERM", () => {
  process.stdout.write(`lost ${counts.lost} of ${counts.lost + counts.passed} datagrams\n`)
  process.exit(0)
})
