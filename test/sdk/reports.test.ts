/** Tunnel status and certificates that the client library sends and resends. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { agentConfig, authSuccess, gatewayConfig } from "./serverFrames.ts"
import { client, scriptedServer } from "./scriptedServer.ts"

const certificate = (domain: string) => ({
  domain,
  certificate: "-----BEGIN CERTIFICATE-----",
  privateKey: "-----BEGIN PRIVATE KEY-----",
  expiresAt: "2030-01-01T00:00:00.000Z"
})
const accepted = (domain: string) => ({ type: "certificate_accepted", data: { domain } })
const error = (code: string, message = "because") => ({ type: "error", data: { code, message } })

/** A gateway client, and `authenticate`, which authenticates its next connection. */
const gateway = Effect.gen(function*() {
  const server = yield* scriptedServer()
  const { engine, disconnected } = yield* client({ type: "gateway", url: server.url })
  const authenticate = Effect.gen(function*() {
    const peer = yield* server.connection
    yield* peer.expect("auth")
    peer.send(authSuccess({ resumed: false, type: "gateway" }), gatewayConfig({ revision: 10 }))
    yield* peer.expect("ack")
    return peer
  })
  return { authenticate, disconnected, reports: engine.reports }
})

describe("reports of a client", () => {
  it.effect("the status waits for a connection, is sent again on the next one in parts that fit the message limit, and later only where it has changed", () =>
    Effect.gen(function*() {
      const server = yield* scriptedServer()
      const { engine, disconnected } = yield* client({ url: server.url })
      const tunnels = Array.from(
        { length: 1_200 },
        (_, index) => ({ id: `t${index}`, status: "active", detail: "x".repeat(100) })
      )
      engine.reports.setStatus(tunnels)
      for (const _ of [1, 2]) {
        const peer = yield* server.connection
        yield* peer.expect("auth")
        peer.send(authSuccess({ resumed: false }))
        const parts = [yield* peer.expect("status"), yield* peer.expect("status")]
        assert.deepStrictEqual(parts.flatMap((part) => part["tunnels"]), tunnels)
        peer.send(agentConfig({ revision: 10 }))
        yield* peer.expect("ack")
        engine.reports.setStatus(tunnels)
        engine.reports.setStatus([...tunnels.slice(1), { id: "t0", status: "starting" }])
        const changed = yield* peer.expect("status")
        assert.deepStrictEqual(changed["tunnels"], [{ id: "t0", status: "starting" }])
        engine.reports.setStatus(tunnels)
        yield* peer.expect("status")
        peer.close(1012)
        yield* disconnected
        yield* TestClock.adjust("2 seconds")
      }
    }))

  it.effect("a certificate is resent, also on the next connection, until Control accepts it", () =>
    Effect.gen(function*() {
      const { authenticate, disconnected, reports } = yield* gateway
      const delivery = yield* Effect.forkScoped(reports.submitCertificate(certificate("Bücher.example")))
      const peer = yield* authenticate
      const domain = "xn--bcher-kva.example"
      assert.strictEqual((yield* peer.expect("certificate_obtained"))["domain"], domain)
      yield* TestClock.adjust("35 seconds")
      yield* peer.expect("heartbeat")
      yield* peer.expect("certificate_obtained")
      peer.close(1012)
      yield* disconnected
      yield* TestClock.adjust("1 second")
      const again = yield* authenticate
      yield* again.expect("certificate_obtained")
      assert.isUndefined(delivery.pollUnsafe())
      again.send(accepted("other.example"), accepted(domain))
      yield* Fiber.join(delivery)
    }))

  it.effect("certificates are sent one at a time, so that an error belongs to exactly one of them", () =>
    Effect.gen(function*() {
      const { authenticate, reports } = yield* gateway
      const [one, two] = yield* Effect.forEach(
        ["a.example", "b.example"],
        (domain) => Effect.forkScoped(reports.submitCertificate(certificate(domain)))
      )
      const peer = yield* authenticate
      assert.strictEqual((yield* peer.expect("certificate_obtained"))["domain"], "a.example")
      assert.strictEqual(peer.unread(), 0)
      peer.send(error("certificate_rejected", "the key belongs to another certificate"))
      assert.strictEqual((yield* peer.expect("certificate_obtained"))["domain"], "b.example")
      peer.send(accepted("b.example"))
      const rejected = yield* Effect.flip(Fiber.join(one ?? assert.fail()))
      assert.deepInclude(rejected, {
        _tag: "CertificateRejected",
        domain: "a.example",
        message: "the key belongs to another certificate"
      })
      yield* Fiber.join(two ?? assert.fail())
    }))

  it.effect("a certificate is sent again while Control reports unavailable", () =>
    Effect.gen(function*() {
      const { authenticate, reports } = yield* gateway
      const delivery = yield* Effect.forkScoped(reports.submitCertificate(certificate("a.example")))
      const peer = yield* authenticate
      yield* peer.expect("certificate_obtained")
      peer.send(error("unknown_type"), error("unavailable"))
      yield* waitFor(() => peer.unread() > 0)
      yield* peer.expect("certificate_obtained")
      peer.send(accepted("a.example"))
      yield* Fiber.join(delivery)
    }))

  it.effect("an invalid certificate is rejected locally, and a pending one fails when the client stops", () =>
    Effect.gen(function*() {
      const { authenticate, reports } = yield* gateway
      const bad = yield* Effect.flip(reports.submitCertificate({ ...certificate("not a name"), expiresAt: "soon" }))
      assert.strictEqual(bad._tag, "CertificateRejected")
      const delivery = yield* Effect.forkScoped(reports.submitCertificate(certificate("a.example")))
      yield* (yield* authenticate).expect("certificate_obtained")
      reports.stop()
      const exit = yield* Effect.exit(Fiber.join(delivery))
      assert.isTrue(Exit.isFailure(exit))
      assert.strictEqual(
        (yield* Effect.flip(reports.submitCertificate(certificate("a.example"))))._tag,
        "ClientStopped"
      )
    }))
})

/** Advances the clock by 1 s at a time until the condition holds, because the client starts to wait at an unknown moment. */
const waitFor = (condition: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() =>
    condition()
      ? Effect.void
      : Effect.andThen(
        Effect.promise(() => new Promise((next) => setImmediate(next))),
        Effect.andThen(TestClock.adjust("1 second"), waitFor(condition))
      )
  )
