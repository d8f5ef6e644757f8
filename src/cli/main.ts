/** Entry point of the command line. */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Effect, type Runtime } from "effect"
import { exitCodeOf, runControl } from "./control.ts"

const teardown: Runtime.Teardown = (exit, onExit) => onExit(exitCodeOf(exit))

NodeRuntime.runMain(Effect.provide(runControl(process.argv.slice(2)), NodeServices.layer), {
  disableErrorReporting: true,
  teardown
})
