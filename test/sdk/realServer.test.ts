/** The client library against a complete server with real sockets, PostgreSQL and clock. */
import { generateWireguardKeyPair } from "#crypto/wireguardKeys.ts"
import { type AgentView, CertificateRejected, type Change, ClientStopped, type GatewayView } from "#sdk/Client.ts"
import { issueCertificate } from "#support/certificates.ts"
import { adminToken, newDatabase } from "#support/testDatabase.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { makeServer, TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Exit, Option, Redacted, Scope } from "effect"
import { randomBytes } from "node:crypto"
import { stat } from "node:fs/promises"
import { join } from "node:path"
import { agent, countingProxy, gateway } from "./realClients.ts"

const urlOf = ({ wsPort }: { readonly wsPort: number }) => `ws://127.0.0.1:${wsPort}`

/** Polls a resource of the HTTP API until the condition holds, and returns the response body. */
const pollUntil = Effect.fnUntraced(function*(path: string, condition: (body: Record<string, unknown>) => boolean) {
  const { operator } = yield* TestServer
  const poll: Effect.Effect<Record<string, unknown>> = Effect.flatMap(
    Effect.promise(() => operator.get(path)),
    ({ body }) => condition(body) ? Effect.succeed(body) : Effect.andThen(Effect.sleep("20 millis"), poll)
  )
  return yield* poll
})

layer(TestServer.layer(), { excludeTestServices: true })("a client of the client library", (it) => {
  it.effect("a client applies a change, and the API reports the applied revision and the tunnel status", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { apiKey, id } = yield* server.newAgent
      const calls: Array<readonly [AgentView, Change]> = []
      const client = yield* agent({
        url: urlOf(server),
        apiKey,
        clientVersion: "test/1",
        apply: (view, change) => void calls.push([view, change])
      })
      yield* client.until("applied")
      const tunnel = yield* server.newTunnel(id)
      const { change } = yield* client.until("applied")
      assert.deepStrictEqual(change.rows, [{ table: "tunnels", key: tunnel.id, kind: "put" }])
      assert.strictEqual(change.revision, tunnel.revision)
      assert.strictEqual(calls.at(-1)?.[0].tunnels.get(tunnel.id)?.domain, tunnel.domain)
      const seen = yield* pollUntil(`/api/agents/${id}`, (body) => body["appliedRevision"] === tunnel.revision)
      assert.deepInclude(seen["session"], { level: "control.v1", clientVersion: "test/1" })
      client.reportStatus([{ domain: tunnel.domain, status: "active" }])
      yield* pollUntil(`/api/tunnels/${tunnel.id}`, (body) => body["reported"] !== null)
    }))

  it.effect("a rejected revision appears in the API and disappears once a later one is applied", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { apiKey, id } = yield* server.newAgent
      let isBroken = false
      const client = yield* agent({
        url: urlOf(server),
        apiKey,
        apply: () => {
          if (isBroken) throw Object.assign(new Error("no such device: wg0"), { code: "no_device" })
        }
      })
      yield* client.until("applied")
      isBroken = true
      const tunnel = yield* server.newTunnel(id)
      yield* client.until("nacked")
      const seen = yield* pollUntil(`/api/agents/${id}`, (body) => body["lastNack"] !== null)
      assert.deepInclude(seen["lastNack"], {
        revision: tunnel.revision,
        code: "no_device",
        message: "no such device: wg0"
      })
      isBroken = false
      yield* server.newTunnel(id)
      assert.lengthOf((yield* client.until("applied")).change.rows, 2)
      yield* pollUntil(`/api/agents/${id}`, (body) => body["lastNack"] === null)
    }))

  it.effect("a client resumes from its state file after a restart, and receives less than a fifth of the data", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { apiKey, id } = yield* server.newAgent
      for (const _ of Array.from({ length: 100 })) yield* server.newTunnel(id)
      const stateFile = join(yield* temporaryDirectory, "state.json")
      const proxy = yield* countingProxy(server.wsPort)
      const first = yield* agent({ url: proxy.url, apiKey, stateFile })
      yield* first.until("applied")
      yield* Effect.promise(() => first.close())
      const snapshotBytes = proxy.bytes()
      assert.strictEqual((yield* Effect.promise(() => stat(stateFile))).mode & 0o777, 0o600)

      const tunnel = yield* server.newTunnel(id)
      const views: Array<AgentView> = []
      const second = yield* agent({ url: proxy.url, apiKey, stateFile, apply: (view) => void views.push(view) })
      assert.strictEqual((yield* second.until("applied")).change.source, "disk")
      assert.isTrue((yield* second.until("ready")).resumed)
      const { change } = yield* second.until("applied")
      assert.deepStrictEqual(change.rows, [{ table: "tunnels", key: tunnel.id, kind: "put" }])
      assert.deepStrictEqual(views.map(({ tunnels }) => tunnels.size), [100, 101])
      assert.isBelow(proxy.bytes() - snapshotBytes, snapshotBytes / 5)
      yield* pollUntil(`/api/agents/${id}`, (body) => body["appliedRevision"] === tunnel.revision)
    }))

  it.effect("a client starts with the view from its state file while Control is unreachable, and keeps retrying", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { apiKey, id } = yield* server.newAgent
      const tunnel = yield* server.newTunnel(id)
      const stateFile = join(yield* temporaryDirectory, "state.json")
      const proxy = yield* countingProxy(server.wsPort)
      const before = yield* agent({ url: proxy.url, apiKey, stateFile })
      yield* before.until("applied")
      yield* Effect.promise(() => before.close())
      proxy.close()

      const views: Array<AgentView> = []
      const client = yield* agent({ url: proxy.url, apiKey, stateFile, apply: (view) => void views.push(view) })
      assert.isNumber((yield* client.until("disconnected")).retryInMs)
      assert.deepStrictEqual(views.map(({ tunnels }) => [...tunnels.keys()]), [[tunnel.id]])
      yield* client.until("disconnected")
      assert.lengthOf(views, 1)
    }))

  it.effect("a client stops when it is replaced by a newer session, when its key is revoked, and when it is deleted", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { apiKey, id } = yield* server.newAgent
      const old = yield* agent({ url: urlOf(server), apiKey })
      yield* old.until("applied")
      const second = yield* agent({ url: urlOf(server), apiKey })
      assert.strictEqual((yield* Effect.promise(() => old.stopped)).code, 4409)
      yield* second.until("applied")
      const { body } = yield* Effect.promise(() => server.operator.get(`/api/agents/${id}/keys`))
      yield* Effect.promise(() => server.operator.delete(`/api/agents/${id}/keys/${body.items[0].id}`))
      assert.strictEqual((yield* Effect.promise(() => second.stopped)).code, 4403)

      const other = yield* server.newAgent
      const third = yield* agent({ url: urlOf(server), apiKey: other.apiKey })
      yield* third.until("applied")
      yield* Effect.promise(() => server.operator.delete(`/api/agents/${other.id}`))
      assert.strictEqual((yield* Effect.promise(() => third.stopped)).code, 4410)
    }))

  it.effect("a gateway submits certificates and learns which were rejected", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { id } = yield* server.newAgent
      const { apiKey } = yield* server.newGateway
      const views: Array<GatewayView> = []
      const client = yield* gateway({
        url: urlOf(server),
        apiKey,
        publicIp: "203.0.113.77",
        apply: (view) => void views.push(view)
      })
      const { domain } = yield* server.newTunnel(id)
      yield* Effect.promise(() => client.submitCertificate({ domain, ...issueCertificate({ names: [domain] }) }))
      while (views.at(-1)?.certificates.has(domain) !== true) yield* client.until("applied")
      const stored = yield* Effect.promise(() => server.operator.get(`/api/certificates`))
      assert.include(stored.body.items.map((item: { readonly domain: string }) => item.domain), domain)
      const rejected = yield* Effect.flip(Effect.tryPromise({
        try: () => client.submitCertificate({ domain, ...issueCertificate({ names: ["other.example.com"] }) }),
        catch: (error) => error
      }))
      assert.instanceOf(rejected, CertificateRejected)
      yield* Effect.promise(() => client.close())
      const late = yield* Effect.flip(Effect.tryPromise({
        try: () => client.submitCertificate({ domain, ...issueCertificate({ names: [domain] }) }),
        catch: (error) => error
      }))
      assert.instanceOf(late, ClientStopped)
    }))

  it.effect("with its own WireGuard key it receives no private key, and an AbortSignal stops it", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { apiKey } = yield* server.newAgent
      const wireguardPublicKey = generateWireguardKeyPair().publicKey
      const abort = new AbortController()
      const views: Array<AgentView> = []
      const client = yield* agent({
        url: urlOf(server).replace("ws:", "http:"),
        apiKey: () => Promise.resolve(apiKey),
        wireguardPublicKey,
        signal: abort.signal,
        apply: (view) => void views.push(view)
      })
      yield* client.until("applied")
      assert.deepInclude(views[0]?.agent, { wireguardPublicKey })
      assert.notProperty(views[0]?.agent, "wireguardPrivateKey")
      abort.abort()
      assert.deepStrictEqual(yield* Effect.promise(() => client.stopped), { code: 1000, reason: "aborted" })
    }))

  it.effect("a client follows the drain when Control stops, and resumes at the next Control process", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const settings = {
        databaseUrl: Option.some(Redacted.make(url)),
        masterKey: Option.some(Redacted.make(randomBytes(32).toString("base64"))),
        adminToken: Option.some(Redacted.make(adminToken))
      }
      const firstScope = yield* Scope.make()
      const first = yield* Scope.provide(makeServer(settings), firstScope)
      const { apiKey, id } = yield* first.newAgent
      const client = yield* agent({ url: urlOf(first), apiKey })
      yield* client.until("applied")
      yield* Scope.close(firstScope, Exit.void)
      const { code, retryInMs } = yield* client.until("disconnected")
      assert.strictEqual(code, 1012)
      assert.isNumber(retryInMs)
      const second = yield* makeServer({ ...settings, wsPort: first.wsPort })
      assert.isTrue((yield* client.until("ready")).resumed)
      const tunnel = yield* second.newTunnel(id, { domain: "after.example.com" })
      assert.strictEqual((yield* client.until("applied")).revision, tunnel.revision)
    }))
})
