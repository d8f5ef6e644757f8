/** A visitor's program: asks a gateway over HTTP or HTTPS, and prints one line with the result. */
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { request as requestHttp } from "node:http"
import { request as requestHttps } from "node:https"
import { connect } from "node:net"
import { createSocket } from "node:dgram"

const domain = "app.example.com"

/** Sends a POST of this many bytes; resolves with the status and the hash of the answer, or with 0 and the problem. */
const ask = (host: string, bytes: number, timeoutMillis: number, certificate?: string): Promise<string> =>
  new Promise((resolve) => {
    const name = certificate === undefined ? domain : `secure.${domain}`
    const options = {
      host,
      method: "POST",
      path: bytes === 0 ? "/" : "/upload",
      headers: { host: name },
      timeout: timeoutMillis,
      agent: false
    }
    const sent = certificate === undefined
      ? requestHttp({ ...options, port: 80 })
      : requestHttps({ ...options, port: 443, servername: name, ca: readFileSync(certificate) })
    const hash = createHash("sha256")
    sent.on("response", (response) => {
      response.on("data", (chunk: Buffer) => hash.update(chunk))
      response.on("end", () => resolve(`${response.statusCode} ${hash.digest("hex")}`))
      response.on("error", (error: Error) => resolve(`0 ${error.message}`))
    })
    sent.on("error", (error) => resolve(`0 ${error.message}`))
    sent.on("timeout", () => sent.destroy(new Error("no answer")))
    sent.end(Buffer.alloc(bytes, 1))
  })

/**
 * Asks until the service answers; prints the milliseconds since `from` of the wall clock. A request may wait for 1 s, as those of
 * an impatient visitor.
 */
const untilServed = async (host: string, from: number): Promise<string> => {
  let last = ""
  while (Date.now() - from < 60_000) {
    last = await ask(host, 0, 1_000)
    if (last.startsWith("200 ")) return String(Date.now() - from)
  }
  return `not served after 60 s: ${last}`
}

/** Asks many times, a few at once; prints the failures and the times in milliseconds. */
const askMany = async (host: string, count: number, bytes: number): Promise<string> => {
  const expected = `200 ${createHash("sha256").update(Buffer.alloc(bytes, 7)).digest("hex")}`
  const times: Array<number> = []
  const failures: Array<string> = []
  let next = 0
  const visitor = async () => {
    while (next < count) {
      next += 1
      const from = performance.now()
      const answer = await ask(host, bytes, 60_000)
      times.push(performance.now() - from)
      if (answer !== expected) failures.push(answer)
    }
  }
  await Promise.all(Array.from({ length: 5 }, visitor))
  times.sort((one, other) => one - other)
  const [median, longest] = [times[Math.floor(times.length / 2)], times.at(-1)].map((time) => Math.round(time ?? 0))
  return JSON.stringify({ failures, median, longest })
}

/** `open`, or how the connection fails. */
const dial = (host: string, port: number): Promise<string> =>
  new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 1_500 })
    const end = (outcome: string) => {
      resolve(outcome)
      socket.destroy()
    }
    socket.on("connect", () => end("open"))
    socket.on("timeout", () => end("no answer"))
    socket.on("error", ({ code, message }: NodeJS.ErrnoException) => end(code ?? message))
  })

/** The answer to a UDP datagram, which is sent again each 0.5 s. */
const askUdp = (host: string, port: number): Promise<string> =>
  new Promise((resolve) => {
    const socket = createSocket("udp4")
    const send = () => socket.send("datagram", port, host)
    const timer = setInterval(send, 500)
    const end = (outcome: string) => {
      clearInterval(timer)
      clearTimeout(deadline)
      socket.close()
      resolve(outcome)
    }
    const deadline = setTimeout(() => end("no answer"), 10_000)
    socket.on("message", (payload) => end(String(payload)))
    send()
  })

const [command, host = "", first = "0", second = "0"] = process.argv.slice(2)
const commands: Readonly<Record<string, () => Promise<string>>> = {
  http: () => ask(host, Number(first), 20_000),
  https: () => ask(host, Number(first), 20_000, second),
  until: () => untilServed(host, Number(first)),
  many: () => askMany(host, Number(first), Number(second)),
  dial: () => dial(host, Number(first)),
  udp: () => askUdp(host, Number(first))
}
process.stdout.write(`${await commands[command ?? ""]?.() ?? `unknown command ${command}`}\n`)
