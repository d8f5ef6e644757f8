/** Hostile packets stop nothing: 10,000 of them. */
import { it } from "@effect/vitest"
import { sendHostilePackets } from "./hostilePackets.ts"

it("10,000 random and mutated packets never throw, and a new connection still works", () => {
  sendHostilePackets(1, 10_000)
})
