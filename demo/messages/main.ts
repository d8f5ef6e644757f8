/**
 * Demonstrates Control with a real server, two agents and two gateways, each in its own process. Prints what every client
 * receives and after how long. Exits with 0 only if every view is correct. Run it with `npm run demo:messages`.
 */
import { readOptions } from "#conformance/programOptions.ts"
import { stopWithParent } from "#processes/endWithParent.ts"
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Effect, Exit } from "effect"
import { leaks, type Rows, type Secret, viewFaults } from "./checkViews.ts"
import { count, event, fault, line, paint, title } from "./print.ts"
import {
  DemoFailed,
  type Operator,
  operator,
  type Server,
  startServer,
  temporaryDirectory,
  within
} from "./serverProcess.ts"
import { type ClientProcesses, makeClientProcesses } from "./ClientProcesses.ts"
import { runScenario, type ScenarioResult } from "./scenario.ts"

const demo = Effect.scoped(Effect.gen(function*() {
  const start = process.hrtime.bigint()
  line("Times count from the start of a step until the client has the message.")
  title("The demo starts a server with an embedded PostgreSQL: node src/server/main.ts")
  const server = yield* startServer(yield* temporaryDirectory)
  event(
    process.hrtime.bigint() - start,
    "server",
    `ready for clients on ${server.wsUrl} and for operators on ${server.apiUrl}`
  )
  const api = operator(server)
  const clients = yield* makeClientProcesses(server)
  const result = yield* runScenario(server, api, clients)

  title("The demo compares the view of every client with the rows of the HTTP API")
  const faults = [...clients.faults, ...yield* checkViews(server, api, clients, result)]
  const seconds = (Number(process.hrtime.bigint() - start) / 1e9).toFixed(1)
  if (faults.length > 0) {
    line(`\n${paint(["bold", "red"], `Failed: ${count(faults.length, "fault")} in ${seconds} s`)}`)
    faults.forEach((text) => line(`  ${text}`))
    return yield* new DemoFailed({ reason: "at least one view is wrong" })
  }
  line(`\n${paint(["bold", "green"], "All views are correct")}, in ${seconds} s.`)
}))

const checkViews = Effect.fnUntraced(
  function*(server: Server, api: Operator, clients: ClientProcesses, result: ScenarioResult) {
    const list = (name: string) =>
      Effect.map(api.get(`/api/${name}?limit=1000`), ({ body }): Rows["agents"] => body.items)
    const rows: Rows = {
      agents: yield* list("agents"),
      gateways: yield* list("gateways"),
      tunnels: yield* list("tunnels"),
      certificates: yield* list("certificates"),
      certificateKeys: result.certificateKeys
    }
    const faults: Array<string> = []
    const reportClient = (name: string, wrong: ReadonlyArray<string>, details: string) => {
      wrong.forEach(fault)
      if (wrong.length === 0)
        line(`${" ".repeat(13)}${paint("cyan", name.padEnd(8))}${paint("green", "correct")}  ${paint("dim", details)}`)
      faults.push(...wrong)
    }

    const secrets = [...secretsOf(server, clients, result)]
    for (const { id, name, type } of result.connected) {
      const { heartbeats, view } = yield* within(`${name}'s view`, clients.readView(name))
      const wrong = view === undefined ? ["the client has no view"] : viewFaults(type, id, view, rows)
      const sizes = view === undefined ? [] : [
        count(view.peers.length, type === "agent" ? "gateway" : "agent"),
        count(view.tunnels.size, "tunnel"),
        ...(type === "agent" ? [] : [count(view.certificates.length, "certificate")]),
        count(heartbeats, "heartbeat")
      ]
      reportClient(name, wrong.map((text) => `${name}'s view: ${text}`), sizes.join(", "))
    }
    const leaked = result.accounts.flatMap(({ name }) => leaks(name, clients.received(name), secrets))
    reportClient(
      "all",
      leaked,
      `${secrets.length} secrets searched in ${
        count(result.accounts.flatMap(({ name }) => clients.received(name)).length, "message")
      }: no client received a secret of another one`
    )
    return faults
  }
)

/** All texts that only some clients may receive. WireGuard private keys are read from the `config` of their owners. */
function* secretsOf(server: Server, clients: ClientProcesses, result: ScenarioResult): Generator<Secret> {
  const isGateway = (client: string) => result.accounts.some(({ name, type }) => name === client && type === "gateway")
  yield { name: "the admin token", text: server.adminToken, mayReceive: () => false }
  for (const { apiKey, id, name, type } of result.accounts) {
    yield { name: `${name}'s API key`, text: apiKey, mayReceive: () => false }
    yield {
      name: `${name}'s id`,
      text: id,
      mayReceive: (client) => client === name || (isGateway(client) !== (type === "gateway"))
    }
    const own = clients.received(name).flatMap((text) => /"wireguardPrivateKey":"([^"]+)"/u.exec(text)?.[1] ?? [])
    for (const text of new Set(own)) {
      yield {
        name: `${name}'s WireGuard private key`,
        text,
        mayReceive: (client) => client === name
      }
    }
  }
  for (const [domain, text] of result.certificateKeys) {
    yield { name: `the private key for ${domain}`, text, mayReceive: isGateway }
  }
  for (const [domain, owners] of result.owners) {
    yield {
      name: `the tunnel ${domain}`,
      text: domain,
      mayReceive: (client) => isGateway(client) || owners.has(client)
    }
  }
}

const report = (cause: Cause.Cause<unknown>) => {
  if (Cause.hasInterruptsOnly(cause)) return line("\nStopped.")
  const error = Cause.squash(cause)
  line(
    `\n${paint(["bold", "red"], "The demo failed")}: ${
      error instanceof DemoFailed ? error.message : Cause.pretty(cause)
    }`
  )
}

const help =
  `Run Control with two agents and two gateways on this machine, and print the messages that each client receives.

Usage: npm run demo:messages

The demo uses free ports and a temporary directory, takes about 20 s, and removes everything at the end.
The exit code is 0 if every client received exactly the expected messages and has the correct view, otherwise 1.

Options:
  --help, -h  Show this help

Examples:
  npm run demo:messages                        Run the demo
  NO_COLOR=1 npm run demo:messages > demo.txt  Save the output without colors`

const program = demo.pipe(
  Effect.timeoutOrElse({
    duration: "90 seconds",
    orElse: () => Effect.fail(new DemoFailed({ reason: "the demo did not end within 90 seconds" }))
  }),
  // Reports an interruption too.
  Effect.onExit((exit) => Exit.isFailure(exit) ? Effect.sync(() => report(exit.cause)) : Effect.void)
)

readOptions(help, {})
// The reader of the output has ended, for example `head`. Everything that the demo has started has to end, too.
process.stdout.once("error", () => process.kill(process.pid, "SIGTERM"))
process.stdout.on("error", () => {})
stopWithParent()
NodeRuntime.runMain(program, { disableErrorReporting: true })
