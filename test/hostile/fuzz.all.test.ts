/** A short run of the fuzz test; `npm run fuzz` runs longer ones. */
import { openDatabase } from "#bench/support/BenchDatabase.ts"
import { assert, it } from "@effect/vitest"
import { afterAll, inject } from "vitest"
import { fuzz } from "./fuzz.ts"

process.env["BENCH_DATABASE_URL"] = inject("serverUrl")
const database = await openDatabase()
afterAll(() => database.close())

it("4,000 hostile frames and 400 hostile streams disturb no client and change no row", async () => {
  const findings = await fuzz(database, { frames: 4_000, streams: 400, seed: 2, print: () => {} })
  assert.deepStrictEqual(findings.faults, [])
  assert.deepStrictEqual(findings.sent, { frames: 4_000, streams: 400 })
  assert.isAbove(findings.changes, 1)
}, 120_000)
