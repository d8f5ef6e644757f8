/** Encoding of events as Server-Sent Events. */
import { eventStream } from "#http/eventStream.ts"
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"

it.effect("an idle stream begins with an id and then sends a comment every 15 s", () =>
  Effect.gen(function*() {
    const texts = Stream.decodeText(eventStream("boot.1.0", Stream.never))
    const reading = yield* Effect.forkChild(Stream.runCollect(Stream.take(texts, 3)))
    yield* TestClock.adjust("14 seconds")
    assert.isUndefined(reading.pollUnsafe())
    yield* TestClock.adjust("16 seconds")
    const [first, ...comments] = yield* Fiber.join(reading)
    assert.strictEqual(first, "id: boot.1.0\nretry: 2000\n\n")
    assert.deepStrictEqual(comments, [": still here\n\n", ": still here\n\n"])
  }))

it.effect("the encoded stream ends when the events end", () =>
  Effect.gen(function*() {
    const event = { event: "reset", data: { reason: "because" } } as const
    const texts = Stream.decodeText(eventStream("boot.1.0", Stream.make({ id: "boot.2.0", event })))
    const all = (yield* Stream.runCollect(texts)).join("")
    assert.strictEqual(
      all,
      "id: boot.1.0\nretry: 2000\n\nid: boot.2.0\nevent: reset\ndata: {\"reason\":\"because\"}\n\n"
    )
  }))
