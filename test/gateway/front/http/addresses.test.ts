/** Visitor addresses in front of the gateway and in the log. */
import { Listeners } from "#gateway/front/Listeners.ts"
import type { HttpFront } from "#gateway/front/http/HttpFront.ts"
import { assert, describe, it } from "@effect/vitest"
import { once } from "node:events"
import { connect as connectTls } from "node:tls"
import { onTestFinished } from "vitest"
import { ask, authorities, route, startFront, startService, textOf, until, visit } from "./httpKit.ts"

const host = "plain.example.com"
const secureHost = "app.example.com"

/** Public ports that expect a PROXY header, in front of the HTTP front. */
const startListeners = async (httpFront: HttpFront, routes: ReadonlyArray<ReturnType<typeof route>>, clock: never) => {
  const listeners = new Listeners({
    bind: ["127.0.0.1"],
    httpPort: 0,
    httpsPort: 0,
    routes: { find: (name) => routes.find(({ domain }) => domain === name) },
    httpFront,
    udp: { bindUdp: () => Promise.reject(new Error("not used")) },
    clock,
    trustedProxies: () => true,
    proxyProtocolIn: true,
    onProblem: () => {}
  })
  await listeners.start()
  onTestFinished(() => listeners.close(0))
  return listeners
}

describe("addresses", () => {
  it("the address of a PROXY header is the visitor's for services and in the log, with and without TLS", async () => {
    const port = await startService((request, response) => response.end(request.headers["x-forwarded-for"]))
    const routes = [route(host, port), route(secureHost, port)]
    const { clock, front, log } = await startFront(routes, { trustedProxies: (address) => address === "127.0.0.1" })
    const { httpPort, httpsPort } = await startListeners(front, routes, clock as never)
    const header = "PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n"
    const get = (name: string) =>
      `GET / HTTP/1.1\r\nHost: ${name}\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n`
    const plain = await visit(httpPort)
    plain.write(header + get(host))
    assert.match(await textOf(plain), /\r\n\r\n203\.0\.113\.9$/u)
    const proxied = await visit(httpsPort)
    proxied.write(header)
    const secure = connectTls({ socket: proxied, servername: secureHost, ca: authorities })
    await once(secure, "secureConnect")
    secure.write(get(secureHost))
    assert.match(await textOf(secure), /\r\n\r\n203\.0\.113\.9$/u)
    await until(() => log.length === 2)
    assert.deepStrictEqual(log.map(({ visitor }) => visitor), ["203.0.113.9", "203.0.113.9"])
  })

  it("text that is not an address never becomes the visitor of the log", async () => {
    const port = await startService((_request, response) => response.end())
    const { httpPort, log } = await startFront([route(host, port)], { trustedProxies: () => true })
    await ask(httpPort, host, { headers: { "X-Forwarded-For": "203.0.113.9, 1.1.1.1 - - \"GET /" } })
    await until(() => log.length === 1)
    assert.strictEqual(log[0]?.visitor, "127.0.0.1")
  })
})
