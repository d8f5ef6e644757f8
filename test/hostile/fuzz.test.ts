import { openDatabase } from "#bench/support/Database.ts"
import { assert, it } from "@effect/vitest"
import { afterAll, inject } from "vitest"
import { fuzz } from "./fuzz.ts"

process.env["BENCH_DATABASE_URL"] = inject("serverUrl")
const database = await openDatabase()
afterAll(() => database.close())

it("twenty thousand hostile frames and two thousand hostile streams disturb no client and change no row", async () => {
  const findings = await fuzz(database, { frames: 20_000, streams: 2_000, seed: 2, print: () => {} })
  assert.deepStrictEqual(findings.faults, [])
  assert.deepStrictEqual(findings.sent, { frames: 20_000, streams: 2_000 })
  assert.isAbove(findings.changes, 1)
}, 120_000)
