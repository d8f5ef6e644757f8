/** Causes that a client names when it cannot connect, with real sockets, names and certificates. */
import { issueCertificate } from "#support/certificates.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { createServer as createHttpServer } from "node:http"
import { createServer as createTlsServer } from "node:https"
import { type AddressInfo, createServer as createTcpServer, type Server } from "node:net"
import { getCACertificates, setDefaultCACertificates } from "node:tls"
import { client } from "./scriptedServer.ts"

/** Listens on a free port of 127.0.0.1 until the scope ends. */
const listening = (server: Server) =>
  Effect.acquireRelease(
    Effect.callback<number>((resume) =>
      void server.listen(0, "127.0.0.1", () => resume(Effect.succeed((server.address() as AddressInfo).port)))
    ),
    () => Effect.sync(() => server.close())
  )

/** The event after the first attempt to connect. */
const firstFailure = (url: string) => Effect.flatMap(client({ url }), (agent) => agent.expect("disconnected"))

const dayMillis = 86_400_000

const authority = { commonName: "authority of this test" }
const root = issueCertificate({ names: [], isAuthority: true, ...authority })

const tlsServer = (name: string, endsInDays: number, isTrusted = true) => {
  const now = Date.now()
  const { certificate: cert, privateKey: key } = issueCertificate({
    names: [name],
    commonName: name,
    ...isTrusted ? { issuer: { ...authority, privateKey: root.privateKey } } : {},
    notBefore: new Date(now - 90 * dayMillis),
    notAfter: new Date(now + endsInDays * dayMillis)
  })
  return listening(createTlsServer({ cert, key }))
}

// Only this file's process trusts the root.
setDefaultCACertificates([...getCACertificates(), root.certificate])

describe("a client that cannot connect", () => {
  it.effect("names a name that does not resolve, a closed port and a port that is no Control", () =>
    Effect.gen(function*() {
      const unresolved = yield* firstFailure("ws://control.invalid/")
      assert.deepInclude(unresolved, { code: 1006, problem: "name-not-resolved", retryInMs: 500 })
      assert.include(unresolved.reason, "the name control.invalid does not resolve")

      const free = yield* Effect.scoped(listening(createTcpServer()))
      const refused = yield* firstFailure(`ws://127.0.0.1:${free}/`)
      assert.deepInclude(refused, { code: 1006, problem: "connection-refused" })
      assert.include(refused.reason, `no server accepts connections on 127.0.0.1:${free}`)

      const port = yield* listening(createTcpServer((socket) => socket.end("220 mail.example.com ESMTP\r\n")))
      const foreign = yield* firstFailure(`ws://127.0.0.1:${port}/`)
      assert.deepInclude(foreign, { code: 1006, problem: "not-control" })
      assert.include(foreign.reason, `the server on 127.0.0.1:${port} does not speak control.v1`)
    }))

  it.effect("names the fault of a certificate", () =>
    Effect.gen(function*() {
      const untrusted = yield* firstFailure(`wss://localhost:${yield* tlsServer("localhost", 30, false)}/`)
      assert.deepInclude(untrusted, { code: 1006, problem: "certificate-untrusted" })
      assert.include(untrusted.reason, "NODE_EXTRA_CA_CERTS")
      const expired = yield* firstFailure(`wss://localhost:${yield* tlsServer("localhost", -1)}/`)
      assert.deepInclude(expired, { code: 1006, problem: "certificate-expired" })
      const foreign = yield* firstFailure(`wss://localhost:${yield* tlsServer("control.example.com", 30)}/`)
      assert.deepInclude(foreign, { code: 1006, problem: "certificate-name-mismatch" })
      const plaintext = yield* listening(createHttpServer())
      assert.strictEqual((yield* firstFailure(`wss://127.0.0.1:${plaintext}/`)).problem, "tls-failed")
      const tls = yield* tlsServer("localhost", 30)
      assert.include(["not-control", "no-answer"], (yield* firstFailure(`ws://127.0.0.1:${tls}/`)).problem)
    }))

  it.effect("names the status of a rejected upgrade, and goes on", () =>
    Effect.gen(function*() {
      const server = createHttpServer()
      server.on("upgrade", (_, socket) => socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 11\r\n\r\nuse TLS now"))
      const rejected = yield* firstFailure(`ws://127.0.0.1:${yield* listening(server)}/`)
      assert.deepInclude(rejected, { code: 403, problem: "upgrade-rejected" })
      assert.include(rejected.reason, "HTTP 403: use TLS now")
      assert.isNumber(rejected.retryInMs)
    }))
})
