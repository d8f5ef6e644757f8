/** The HTTPS port: real TLS handshakes, rejected names, and bytes that are no ClientHello. */
import { assert, describe, it } from "@effect/vitest"
import { issueCertificate } from "#support/certificates.ts"
import { X509Certificate } from "node:crypto"
import { once } from "node:events"
import type { Socket } from "node:net"
import { Duplex } from "node:stream"
import { connect, type ConnectionOptions, createServer, type TLSSocket } from "node:tls"
import { clientHello } from "#support/clientHellos.ts"
import {
  certificate,
  closeAfterTest,
  ending,
  listen,
  readAll,
  readBytes,
  route,
  startFront,
  tlsOptions,
  until,
  visit
} from "./frontKit.ts"

const serviceCertificate = issueCertificate({ names: ["pass.example.com"], commonName: "service" })
const serviceTls = { cert: serviceCertificate.certificate, key: serviceCertificate.privateKey }
const authorities = [certificate.certificate, serviceCertificate.certificate]

/** A TLS echo service with its own certificate, behind the tunnel. */
const startTlsService = (): Promise<number> =>
  listen(createServer(serviceTls, (socket) => void closeAfterTest(socket).pipe(socket)))

/** TLS of the gateway itself, which answers with the server name and the ALPN protocol. */
const httpsFront = () =>
  createServer({ ...tlsOptions, ALPNProtocols: ["h2", "http/1.1"] }, (socket: TLSSocket) => {
    closeAfterTest(socket).end(`${socket.servername} ${socket.alpnProtocol}`)
  })

const startHttps = async () => {
  const pass = route({ tunnelId: "pass", domain: "pass.example.com", protocol: "tls", port: await startTlsService() })
  const app = route({ tunnelId: "app", domain: "app.example.com", protocol: "http" })
  const https = httpsFront()
  const served: Array<Socket> = []
  const front = await startFront({
    names: [pass, app],
    httpFront: {
      serveHttp: (socket) => socket.destroy(),
      serveTls: (socket) => {
        served.push(socket)
        https.emit("connection", socket)
      }
    }
  })
  return { ...front, port: front.listeners.httpsPort, pass, app, served }
}

/** A socket whose writes reach the network in pieces of `size` bytes, each one alone. */
const inPieces = (socket: Socket, size: number): Duplex => {
  const write = async (bytes: Buffer, done: () => void) => {
    for (let at = 0; at < bytes.length; at += size) {
      socket.write(bytes.subarray(at, at + size))
      // The server reads the piece before the next one arrives.
      for (let turn = 0; turn < 2; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    }
    done()
  }
  const duplex = new Duplex({
    read: () => void socket.resume(),
    write: (chunk: Buffer, _encoding, done) => void write(chunk, done),
    final: (done) => void socket.end(done),
    destroy: (error, done) => {
      socket.destroy()
      done(error)
    }
  })
  socket.on("data", (chunk) => duplex.push(chunk) || socket.pause()).on("end", () => duplex.push(null))
  return duplex
}

/** Completes a handshake on the connection, sends `hello` and returns the answer and the server's certificate. */
const talk = async (socket: Duplex, options: ConnectionOptions) => {
  const tls = closeAfterTest(connect({ socket, ca: authorities, ...options }))
  await once(tls, "secureConnect")
  const { fingerprint256 } = tls.getPeerCertificate()
  tls.end("hello")
  return { answer: String(await readAll(tls)), fingerprint256 }
}

/** Sends the bytes and returns the answer until the connection ends. */
const answerTo = async (port: number, bytes: Buffer | string): Promise<Buffer> => {
  const socket = await visit(port)
  socket.write(bytes)
  const answer = await readAll(socket)
  socket.destroy()
  return answer
}

const alert = (description: number) => Buffer.of(21, 3, 3, 0, 2, 2, description)

describe("HTTPS port", () => {
  it("a tls tunnel is passed through to the service's own certificate, and the gateway's TLS sees nothing of it", async () => {
    const { listeners, pass, port, served } = await startHttps()
    const { answer, fingerprint256 } = await talk(await visit(port), { servername: "pass.example.com" })
    assert.strictEqual(answer, "hello")
    assert.strictEqual(fingerprint256, new X509Certificate(serviceCertificate.certificate).fingerprint256)
    assert.strictEqual(served.length, 0)
    assert.deepStrictEqual(pass.outcomes, ["ok"])
    assert.isAbove(listeners.counts.pipedBytes.fromVisitors, 500)
    await until(() => listeners.counts.openPipes === 0)
  })

  it("an http tunnel is served by the gateway's TLS with the visitor's ALPN", async () => {
    const { port } = await startHttps()
    const h2 = await talk(await visit(port), { servername: "app.example.com", ALPNProtocols: ["h2", "http/1.1"] })
    assert.strictEqual(h2.answer, "app.example.com h2")
    const old = await talk(await visit(port), { servername: "APP.example.com", maxVersion: "TLSv1.2" })
    assert.strictEqual(old.answer.toLowerCase(), "app.example.com false")
  })

  it.each([1, 7, 700])("a ClientHello in pieces of %i bytes is served and passed through", async (size) => {
    const { port } = await startHttps()
    const options = { ecdhCurve: "X25519MLKEM768:X25519" }
    const pass = await talk(inPieces(await visit(port), size), { ...options, servername: "pass.example.com" })
    assert.strictEqual(pass.answer, "hello")
    const app = await talk(inPieces(await visit(port), size), { ...options, servername: "app.example.com" })
    assert.strictEqual(app.answer, "app.example.com false")
  })

  it("a resumed session with early bytes after the ClientHello is served", async () => {
    const { port } = await startHttps()
    const first = closeAfterTest(
      connect({ socket: await visit(port), ca: authorities, servername: "pass.example.com" })
    )
    const [session] = await once(first, "session") as [Buffer]
    first.destroy()
    const again = closeAfterTest(
      connect({ socket: await visit(port), ca: authorities, servername: "pass.example.com", session })
    )
    await once(again, "secureConnect")
    assert.isTrue(again.isSessionReused())
  })

  it("an unknown name, a missing name and a damaged ClientHello get an alert and a close", async () => {
    const { listeners, port } = await startHttps()
    assert.deepStrictEqual(await answerTo(port, await clientHello({ servername: "x.example.com" })), alert(112))
    assert.deepStrictEqual(await answerTo(port, await clientHello({})), alert(109))
    assert.deepStrictEqual(await answerTo(port, Buffer.of(22, 3, 1, 0, 0)), alert(50))
    assert.deepInclude(listeners.counts.tlsRejections, { unknownName: 1, missingName: 1, invalid: 1 })
    await until(() => listeners.counts.openConnections === 0)
  })

  it("a TLS client understands the alerts", async () => {
    const { port } = await startHttps()
    const codeOf = async (options: ConnectionOptions) => {
      const tls = connect({ socket: await visit(port), ...options })
      return new Promise((resolve) => tls.once("error", (error: NodeJS.ErrnoException) => resolve(error.code)))
    }
    assert.strictEqual(await codeOf({ servername: "x.example.com" }), "ERR_SSL_TLSV1_UNRECOGNIZED_NAME")
    assert.strictEqual(await codeOf({}), "ERR_SSL_TLSV13_ALERT_MISSING_EXTENSION")
  })

  it("HTTP without TLS gets a page that names https, and the rest of its bytes are ignored", async () => {
    const { listeners, port } = await startHttps()
    const answer = String(
      await answerTo(port, `GET / HTTP/1.1\r\nHost: app.example.com\r\n${"X: y\r\n".repeat(10_000)}\r\n`)
    )
    assert.match(answer, /^HTTP\/1\.1 400 Bad Request\r\n/u)
    assert.match(answer, /\r\n\r\nThis port serves HTTPS only\./u)
    assert.strictEqual(listeners.counts.tlsRejections.plainHttp, 1)
  })

  it("a visitor that does not close after its alert is closed within 2 s", async () => {
    const { clock, listeners, port } = await startHttps()
    const socket = await visit(port)
    socket.write(await clientHello({}))
    assert.deepStrictEqual(await readBytes(socket, 7), alert(109))
    clock.advance(1_999)
    assert.strictEqual(listeners.counts.openConnections, 1)
    clock.advance(1)
    await until(() => listeners.counts.openConnections === 0)
  })

  it("other bytes are answered with a reset", async () => {
    const { listeners, port } = await startHttps()
    for (const bytes of [Buffer.alloc(100), Buffer.of(0x80, 0x2e, 1), Buffer.alloc(20_000, 0xff)]) {
      const socket = await visit(port)
      socket.write(bytes)
      assert.strictEqual(await ending(socket), "ECONNRESET")
    }
    assert.strictEqual(listeners.counts.tlsRejections.invalid, 3)
  })

  it("a visitor that does not complete its ClientHello within 10 s is reset", async () => {
    const { clock, listeners, port } = await startHttps()
    const hello = await clientHello({ servername: "pass.example.com" })
    const silent = await visit(port)
    const slow = await visit(port)
    slow.write(hello.subarray(0, 200))
    await until(() => listeners.counts.openConnections === 2)
    clock.advance(9_999)
    assert.strictEqual(listeners.counts.openConnections, 2)
    clock.advance(1)
    assert.deepStrictEqual(await Promise.all([ending(silent), ending(slow)]), ["ECONNRESET", "ECONNRESET"])
    assert.strictEqual(listeners.counts.tlsRejections.timedOut, 2)
    assert.strictEqual(clock.timers, 1, "only the timer of addresses is left")
  })

  it("a visitor that leaves before its ClientHello is complete leaves nothing behind", async () => {
    const { clock, listeners, port } = await startHttps()
    const ended = await visit(port)
    const reset = await visit(port)
    await until(() => listeners.counts.openConnections === 2)
    ended.end(Buffer.of(22, 3))
    reset.resetAndDestroy()
    await until(() => listeners.counts.openConnections === 0)
    assert.strictEqual(clock.timers, 1)
  })

  it("a visitor of a tls tunnel without a service gets an alert", async () => {
    const closed = route({ domain: "pass.example.com", protocol: "tls", port: 1 })
    const { listeners } = await startFront({ names: [closed] })
    const hello = await clientHello({ servername: "pass.example.com" })
    assert.deepStrictEqual(await answerTo(listeners.httpsPort, hello), alert(80))
    assert.deepStrictEqual(closed.outcomes, ["target-unreachable"])
    await until(() => listeners.counts.openConnections === 0)
  })
})
