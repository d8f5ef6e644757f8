/** Hostile datagrams deliver nothing and stop nothing: 10,000 of them. */
import { it } from "@effect/vitest"
import { sendHostileDatagrams } from "./hostileDatagrams.ts"

it("10,000 random, mutated and replayed datagrams deliver no packet, and two machines still reach each other", () => {
  sendHostileDatagrams(1, 10_000)
})
