/** Entry point of `control agent run`. */
import { runProgram } from "#program/runProgram.ts"
import { agentOptions } from "./options.ts"
import { runAgent } from "./program.ts"

await runProgram({
  command: "control agent run",
  name: "agent",
  summary: "Run an agent: carry the traffic of its tunnels to services of this machine and its network",
  example: "control agent run --env-file home.env",
  table: agentOptions,
  run: runAgent
})
