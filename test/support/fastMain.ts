/** Entry point of the server with `fastIntervals`, for tests that wait for the lease of a killed process. */
import { program, teardown } from "#server/program.ts"
import { Intervals } from "#time/Intervals.ts"
import { NodeRuntime } from "@effect/platform-node"
import { Effect } from "effect"
import { fastIntervals } from "./fastIntervals.ts"

NodeRuntime.runMain(Effect.provideService(program, Intervals, fastIntervals), {
  disableErrorReporting: true,
  teardown
})
