/** Entry point of `control gateway run`. */
import { runProgram } from "#program/runProgram.ts"
import { gatewayOptions } from "./options.ts"
import { runGateway } from "./program.ts"

await runProgram({
  command: "control gateway run",
  name: "gateway",
  summary: "Run a gateway: take visitors' traffic on public ports and pass it through WireGuard to agents",
  example: "control gateway run --env-file edge.env",
  table: gatewayOptions,
  run: runGateway
})
