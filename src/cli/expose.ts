/** `control expose`: creates or changes a tunnel, and waits until gateways serve it. */
import { Clock, Console, Effect, Option, Result, Schema } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { requestJson } from "./apiClient.ts"
import { type CommandFailed, commandFailed } from "./CommandFailed.ts"
import { findServer, type Server } from "./findServer.ts"
import { replaceControlCharacters } from "./valueText.ts"

const Exposed = Schema.Struct({
  id: Schema.String,
  target: Schema.String,
  agentId: Schema.String,
  delivery: Schema.optionalKey(Schema.Struct({
    pending: Schema.Array(Schema.Unknown),
    nacks: Schema.Array(Schema.Struct({ message: Schema.String })),
    serving: Schema.optionalKey(Schema.Array(Schema.Struct({
      gatewayId: Schema.String,
      gatewayName: Schema.optionalKey(Schema.NullOr(Schema.String)),
      status: Schema.NullOr(Schema.String),
      detail: Schema.optionalKey(Schema.NullOr(Schema.String))
    })))
  }))
})
type Exposed = typeof Exposed.Type

const timeout = Flag.withDefault(
  Flag.String("timeout").pipe(
    Flag.withMetavar("DURATION"),
    Flag.withDescription("Maximum wait for the gateways, for example 30s (default)")
  ),
  "30s"
)

export const exposeCommand = Command.make("expose", {
  agent: Argument.String("agent").pipe(Argument.withDescription("Name or id of the agent that reaches the service")),
  target: Argument.String("target").pipe(
    Argument.withDescription("Port on the agent's machine, or HOST:PORT, for example 8080 or http://nas:80")
  ),
  domain: Argument.String("domain").pipe(Argument.withDescription("Public name, for example app.example.com")),
  timeout
}, ({ agent, domain, target, timeout }) =>
  Effect.gen(function*() {
    const server = yield* findServer
    const started = yield* Clock.currentTimeMillis
    const wanted = { agentId: agent, target: /^\d{1,5}$/u.test(target) ? `localhost:${target}` : target }
    const exposed = yield* createOrChange(server, domain, wanted, timeout)
    const millis = (yield* Clock.currentTimeMillis) - started
    yield* report(domain, agent, exposed, millis)
  })).pipe(
    Command.withDescription("Make a service of an agent public under a domain, and wait until it is served"),
    Command.withExamples([{ command: "control expose home 8080 app.example.com" }])
  )

interface Wanted {
  readonly agentId: string
  readonly target: string
}

/** The command can be repeated: a domain that has a tunnel already is moved to this agent and target. */
const createOrChange = Effect.fnUntraced(function*(server: Server, domain: string, wanted: Wanted, timeout: string) {
  const query = { wait: "serving", timeout }
  const path = `/api/tunnels/${encodeURIComponent(domain)}`
  const existing = yield* Effect.result(requestJson(server, { method: "GET", path }))
  if (Result.isFailure(existing) && existing.failure.kind !== "notFound") return yield* existing.failure
  const request = Result.isSuccess(existing)
    ? { method: "PATCH", path, query, body: { ...wanted, enabled: true } }
    : { method: "POST", path: "/api/tunnels", query, body: { ...wanted, domain } }
  return yield* Effect.mapError(
    Effect.flatMap(requestJson(server, request), decodeExposed),
    (error): CommandFailed =>
      error._tag === "CommandFailed"
        ? error
        : commandFailed("failed", `the server at ${server.name} has another version; update control`)
  )
})

const decodeExposed = Schema.decodeUnknownEffect(Exposed)

const report = Effect.fnUntraced(function*(domain: string, agent: string, exposed: Exposed, millis: number) {
  const { nacks = [], serving = [] } = exposed.delivery ?? {}
  const names = serving.filter(({ status }) => status === "serving").map(nameOf)
  const problems = serving.filter(({ status }) => status !== "serving")
  const [nack] = nacks
  if (nack !== undefined) return yield* commandFailed("failed", `saved, but rejected: ${nack.message}`)
  if (names.length === 0 && problems.length === 0) {
    return yield* commandFailed("timedOut", "saved, but no gateway is connected; see control gateway list")
  }
  if (names.length === 0 || (exposed.delivery?.pending.length ?? 0) > 0) {
    const reasons = problems.map((gateway) => `${nameOf(gateway)}: ${gateway.detail ?? gateway.status ?? "no report"}`)
    return yield* commandFailed(
      "timedOut",
      `saved, but not served yet${reasons.length === 0 ? "" : ` (${reasons.join("; ")})`}; see control check ${domain}`
    )
  }
  yield* Console.log(replaceControlCharacters(
    `${domain} → ${agent} ${exposed.target}   serving by ${names.join(", ")} (${Math.round(millis)} ms)`
  ))
})

const nameOf = (
  { gatewayId, gatewayName }: { readonly gatewayId: string; readonly gatewayName?: string | null }
): string => Option.getOrElse(Option.fromNullishOr(gatewayName), () => gatewayId)
