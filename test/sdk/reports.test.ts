import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { agentConfig, gatewayConfig, welcome } from "./frames.ts"
import { client, scripted } from "./scripted.ts"

const certificate = (domain: string) => ({
  domain,
  certificate: "-----BEGIN CERTIFICATE-----",
  privateKey: "-----BEGIN PRIVATE KEY-----",
  expiresAt: "2030-01-01T00:00:00.000Z"
})
const accepted = (domain: string) => ({ type: "certificate_accepted", data: { domain } })
const error = (code: string, message = "because") => ({ type: "error", data: { code, message } })

/** A gateway that is ready, and a way to be ready again. */
const gateway = Effect.gen(function*() {
  const server = yield* scripted()
  const { engine, lost } = yield* client({ type: "gateway", url: server.url })
  const enter = Effect.gen(function*() {
    const peer = yield* server.connection
    yield* peer.expect("auth")
    peer.say(welcome({ resumed: false, type: "gateway" }), gatewayConfig({ revision: 10 }))
    yield* peer.expect("ack")
    return peer
  })
  return { enter, lost, reports: engine.reports }
})

describe("what a client tells", () => {
  it.effect("a status waits for the connection, and is told again on the next one, in parts that fit a message", () =>
    Effect.gen(function*() {
      const server = yield* scripted()
      const { engine, lost } = yield* client({ url: server.url })
      const tunnels = Array.from({ length: 700 }, (_, index) => ({ domain: `t${index}.example.com`, status: "active" }))
      engine.reports.status(tunnels)
      for (const _ of [1, 2]) {
        const peer = yield* server.connection
        yield* peer.expect("auth")
        peer.say(welcome({ resumed: false }))
        const parts = [yield* peer.expect("status"), yield* peer.expect("status")]
        assert.deepStrictEqual(parts.flatMap((part) => part["tunnels"]), tunnels)
        peer.say(agentConfig({ revision: 10 }))
        yield* peer.expect("ack")
        engine.reports.status(tunnels.slice(0, 1))
        assert.lengthOf((yield* peer.expect("status"))["tunnels"], 1)
        engine.reports.status(tunnels)
        yield* peer.expect("status")
        yield* peer.expect("status")
        peer.close(1012)
        yield* lost
        yield* TestClock.adjust("2 seconds")
      }
    }))

  it.effect("a certificate is repeated, also on another connection, until it is accepted", () =>
    Effect.gen(function*() {
      const { enter, lost, reports } = yield* gateway
      const delivery = yield* Effect.forkScoped(reports.obtained(certificate("Bücher.example")))
      const peer = yield* enter
      const domain = "xn--bcher-kva.example"
      assert.strictEqual((yield* peer.expect("certificate_obtained"))["domain"], domain)
      yield* TestClock.adjust("35 seconds")
      yield* peer.expect("heartbeat")
      yield* peer.expect("certificate_obtained")
      peer.close(1012)
      yield* lost
      yield* TestClock.adjust("1 second")
      const again = yield* enter
      yield* again.expect("certificate_obtained")
      assert.isUndefined(delivery.pollUnsafe())
      again.say(accepted("other.example"), accepted(domain))
      yield* Fiber.join(delivery)
    }))

  it.effect("certificates are handed over one after the other, so that an error is about one of them", () =>
    Effect.gen(function*() {
      const { enter, reports } = yield* gateway
      const [one, two] = yield* Effect.forEach(
        ["a.example", "b.example"],
        (domain) => Effect.forkScoped(reports.obtained(certificate(domain)))
      )
      const peer = yield* enter
      assert.strictEqual((yield* peer.expect("certificate_obtained"))["domain"], "a.example")
      assert.strictEqual(peer.waiting(), 0)
      peer.say(error("certificate_rejected", "the key belongs to another certificate"))
      assert.strictEqual((yield* peer.expect("certificate_obtained"))["domain"], "b.example")
      peer.say(accepted("b.example"))
      const refused = yield* Effect.flip(Fiber.join(one ?? assert.fail()))
      assert.deepInclude(refused, {
        _tag: "CertificateRejected",
        domain: "a.example",
        message: "the key belongs to another certificate"
      })
      yield* Fiber.join(two ?? assert.fail())
    }))

  it.effect("while the store is away a certificate is kept and tried again", () =>
    Effect.gen(function*() {
      const { enter, reports } = yield* gateway
      const delivery = yield* Effect.forkScoped(reports.obtained(certificate("a.example")))
      const peer = yield* enter
      yield* peer.expect("certificate_obtained")
      peer.say(error("unknown_type"), error("unavailable"))
      yield* waitFor(() => peer.waiting() > 0)
      yield* peer.expect("certificate_obtained")
      peer.say(accepted("a.example"))
      yield* Fiber.join(delivery)
    }))

  it.effect("what is no certificate is refused here, and what is not delivered ends with the client", () =>
    Effect.gen(function*() {
      const { enter, reports } = yield* gateway
      const bad = yield* Effect.flip(reports.obtained({ ...certificate("not a name"), expiresAt: "soon" }))
      assert.strictEqual(bad._tag, "CertificateRejected")
      const delivery = yield* Effect.forkScoped(reports.obtained(certificate("a.example")))
      yield* (yield* enter).expect("certificate_obtained")
      reports.stop()
      const exit = yield* Effect.exit(Fiber.join(delivery))
      assert.isTrue(Exit.isFailure(exit))
      assert.strictEqual((yield* Effect.flip(reports.obtained(certificate("a.example"))))._tag, "ClientStopped")
    }))
})

/** Moves the clock by a second at a time until it is so: the client begins to wait at a moment that a test cannot see. */
const waitFor = (isSo: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() =>
    isSo()
      ? Effect.void
      : Effect.andThen(
        Effect.promise(() => new Promise((next) => setImmediate(next))),
        Effect.andThen(TestClock.adjust("1 second"), waitFor(isSo))
      )
  )
