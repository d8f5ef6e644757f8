/**
 * Shows Control at work: a real server, two agents and two gateways, each a process of its own, and what each of them
 * receives and after how long. Exits with 0 only when every view came out right. Run it with `npm run demo`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Effect, Exit } from "effect"
import { judgeView, leaks, type Rows, type Secret } from "./checkViews.ts"
import { count, event, fault, line, paint, title } from "./print.ts"
import { DemoFailed, type Operator, operator, type Server, startServer, temporaryDirectory, within } from "./server.ts"
import { makeStage, type Stage } from "./ClientProcesses.ts"
import { tell, type Told } from "./scenario.ts"

const demo = Effect.scoped(Effect.gen(function*() {
  const start = process.hrtime.bigint()
  line("Times are from the beginning of an action until the client's process had the message.")
  title("Start a server with an embedded PostgreSQL: node src/server/main.ts")
  const server = yield* startServer(yield* temporaryDirectory)
  event(
    process.hrtime.bigint() - start,
    "server",
    `serves clients on ${server.wsUrl} and operators on ${server.apiUrl}`
  )
  const api = operator(server)
  const stage = yield* makeStage(server)
  const told = yield* tell(server, api, stage)

  title("Judge every view by what the API says the network is")
  const faults = [...stage.faults, ...yield* judge(server, api, stage, told)]
  const seconds = (Number(process.hrtime.bigint() - start) / 1e9).toFixed(1)
  if (faults.length > 0) {
    line(`\n${paint(["bold", "red"], `Wrong: ${count(faults.length, "fault")} in ${seconds} s`)}`)
    faults.forEach((text) => line(`  ${text}`))
    return yield* new DemoFailed({ reason: "not every view came out right" })
  }
  line(`\n${paint(["bold", "green"], "All views came out right")}, in ${seconds} s.`)
}))

const judge = Effect.fnUntraced(function*(server: Server, api: Operator, stage: Stage, told: Told) {
  const list = (name: string) =>
    Effect.map(api.get(`/api/${name}?limit=1000`), ({ body }): Rows["agents"] => body.items)
  const rows: Rows = {
    agents: yield* list("agents"),
    gateways: yield* list("gateways"),
    tunnels: yield* list("tunnels"),
    certificates: yield* list("certificates"),
    certificateKeys: told.certificateKeys
  }
  const faults: Array<string> = []
  const verdict = (who: string, wrong: ReadonlyArray<string>, right: string) => {
    wrong.forEach(fault)
    if (wrong.length === 0)
      line(`${" ".repeat(13)}${paint("cyan", who.padEnd(8))}${paint("green", "right")}  ${paint("dim", right)}`)
    faults.push(...wrong)
  }

  const secrets = [...secretsOf(server, stage, told)]
  for (const { id, name, type } of told.survivors) {
    const { heartbeats, view } = yield* within(`${name}'s view`, stage.show(name))
    const wrong = view === undefined ? ["it has none"] : judgeView(type, id, view, rows)
    const sizes = view === undefined ? [] : [
      count(view.peers.length, type === "agent" ? "gateway" : "agent"),
      count(view.tunnels.size, "tunnel"),
      ...(type === "agent" ? [] : [count(view.certificates.length, "certificate")]),
      count(heartbeats, "heartbeat")
    ]
    verdict(name, wrong.map((text) => `${name}'s view: ${text}`), sizes.join(", "))
  }
  const leaked = told.accounts.flatMap(({ name }) => leaks(name, stage.received(name), secrets))
  verdict(
    "all",
    leaked,
    `${secrets.length} private texts looked for in ${
      count(told.accounts.flatMap(({ name }) => stage.received(name)).length, "message")
    }: nobody was sent what is another's`
  )
  return faults
})

/** Every text that is not for everybody. WireGuard's private keys are known from the `config` of their owners. */
function* secretsOf(server: Server, stage: Stage, told: Told): Generator<Secret> {
  const isGateway = (client: string) => told.accounts.some(({ name, type }) => name === client && type === "gateway")
  yield { name: "the admin token", text: server.adminToken, mayKnow: () => false }
  for (const { apiKey, id, name, type } of told.accounts) {
    yield { name: `${name}'s API key`, text: apiKey, mayKnow: () => false }
    yield {
      name: `${name}'s id`,
      text: id,
      mayKnow: (client) => client === name || (isGateway(client) !== (type === "gateway"))
    }
    const own = stage.received(name).flatMap((text) => /"wireguardPrivateKey":"([^"]+)"/u.exec(text)?.[1] ?? [])
    for (const text of new Set(own)) {
      yield {
        name: `${name}'s WireGuard private key`,
        text,
        mayKnow: (client) => client === name
      }
    }
  }
  for (const [domain, text] of told.certificateKeys) {
    yield { name: `the private key for ${domain}`, text, mayKnow: isGateway }
  }
  for (const [domain, owners] of told.owners) {
    yield { name: `the tunnel ${domain}`, text: domain, mayKnow: (client) => isGateway(client) || owners.has(client) }
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

NodeRuntime.runMain(
  demo.pipe(
    Effect.timeoutOrElse({
      duration: "90 seconds",
      orElse: () => Effect.fail(new DemoFailed({ reason: "it did not end within 90 seconds" }))
    }),
    // Also when it is interrupted.
    Effect.onExit((exit) => Exit.isFailure(exit) ? Effect.sync(() => report(exit.cause)) : Effect.void)
  ),
  { disableErrorReporting: true }
)
