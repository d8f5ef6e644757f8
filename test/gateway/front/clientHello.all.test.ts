/** Comparison of the ClientHello parser with OpenSSL, which later chooses the certificate by its own reading. */
import { readClientHello } from "#gateway/front/clientHello.ts"
import { clientHello, mutateHello } from "#support/clientHellos.ts"
import { assert, it } from "@effect/vitest"
import { Duplex } from "node:stream"
import { createSecureContext, TLSSocket } from "node:tls"
import { tlsOptions } from "./frontKit.ts"

const secureContext = createSecureContext(tlsOptions)

/** The server name that OpenSSL reads; undefined if it finds none, waits for more bytes, or ends the handshake. */
const openSslName = (hello: Buffer): Promise<string | undefined> => {
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  const wire = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() })
  const socket = new TLSSocket(wire, {
    isServer: true,
    secureContext,
    SNICallback: (name, done) => {
      resolve(name)
      done(null, secureContext)
    }
  })
  socket.on("error", () => resolve(undefined))
  wire.push(hello)
  setImmediate(() => setImmediate(() => resolve(undefined)))
  return promise.finally(() => socket.destroy())
}

it("5,000 mutated hellos never have another server name for OpenSSL than for the gateway's route", async () => {
  const hellos = await Promise.all([
    clientHello({ servername: "app.example.com", ALPNProtocols: ["h2", "http/1.1"] }),
    clientHello({ servername: "a.example.com", maxVersion: "TLSv1.2" })
  ])
  const counts = { sameName: 0, rejectedByGateway: 0 }
  for (let index = 0; index < 5_000; index += 1) {
    const bytes = mutateHello(hellos, 7, index)
    const parsed = readClientHello(bytes)
    if (parsed._tag === "Incomplete") continue
    // oxlint-disable-next-line no-await-in-loop -- one handshake at a time
    const name = await openSslName(bytes)
    const text = `hello ${index}: ${bytes.toString("base64")}`
    if (name === undefined) continue
    if (parsed._tag === "Hello" && parsed.serverName !== undefined) {
      assert.strictEqual(name.toLowerCase(), parsed.serverName, text)
      counts.sameName += 1
    } else counts.rejectedByGateway += 1
  }
  assert.isAbove(counts.sameName, 500)
  assert.isAbove(counts.rejectedByGateway, 20)
}, 120_000)
