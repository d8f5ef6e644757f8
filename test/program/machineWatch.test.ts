/** A suspended machine and changed addresses are noticed within a second. */
import { type MachineChange, watchMachine } from "#program/machineWatch.ts"
import { ManualClock } from "#support/ManualClock.ts"
import { assert, describe, it } from "@effect/vitest"

describe("watching the machine", () => {
  it("a jump of the wall clock ahead of the monotonic clock is a suspended machine", () => {
    const clock = new ManualClock()
    let asleep = 0
    const changes: Array<MachineChange> = []
    watchMachine({ ...clock, wall: () => clock.wall() + asleep }, (change) => changes.push(change), () => "eth0")
    clock.advance(5_000)
    assert.deepStrictEqual(changes, [])
    asleep = 600_000
    clock.advance(1_000)
    assert.deepStrictEqual(changes, ["woke"])
    clock.advance(5_000)
    assert.deepStrictEqual(changes, ["woke"])
  })

  it("a new address is noticed once, and nothing after the end", () => {
    const clock = new ManualClock()
    let addresses = "eth0 192.0.2.1"
    const changes: Array<MachineChange> = []
    const stop = watchMachine(clock, (change) => changes.push(change), () => addresses)
    addresses = "eth0 192.0.2.2"
    clock.advance(3_000)
    assert.deepStrictEqual(changes, ["addresses-changed"])
    stop()
    addresses = ""
    clock.advance(3_000)
    assert.strictEqual(changes.length, 1)
    assert.strictEqual(clock.timers, 0)
  })
})
