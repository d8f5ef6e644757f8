/** Entry point of the server. */
import { NodeRuntime } from "@effect/platform-node"
import { program, teardown } from "./program.ts"

NodeRuntime.runMain(program, { disableErrorReporting: true, teardown })
