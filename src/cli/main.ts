/** Entry point of the command line. */
import { stopWithParent } from "#processes/endWithParent.ts"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Effect, type Runtime } from "effect"
import { exitCodeOf, runControl } from "./control.ts"

const teardown: Runtime.Teardown = (exit, onExit) => onExit(exitCodeOf(exit))

stopWithParent()
NodeRuntime.runMain(Effect.provide(runControl(process.argv.slice(2)), NodeServices.layer), {
  disableErrorReporting: true,
  teardown
})
